"""Stages elsewhere: in a process of their own, on a Ray cluster by its Jobs API, or as a RayJob of Kubernetes."""

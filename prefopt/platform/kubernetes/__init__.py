"""Jobs as RayJobs, which the KubeRay operator gives clusters of their own."""

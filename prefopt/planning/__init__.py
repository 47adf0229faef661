"""What a run will cost, worked out from configs and metadata alone: no weights are loaded and Ray is not started."""

"""How glibc treats the memory of a batch, for processes that run models on a CPU."""

MALLOC_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
"""glibc keeps what a model frees for its next batch. Otherwise every batch of a CPU's model asks the kernel for new
pages: 500,000 page faults for 16 images of a ViT-B, a tenth of its time."""

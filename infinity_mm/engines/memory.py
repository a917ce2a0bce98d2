"""The memory of a model in this process: whether an error says that it was too little, and giving it back."""

import gc


def out_of_memory(error: Exception) -> bool:
    """Whether an error of torch or Python says that memory was short."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(said in str(error) for said in ("not enough memory", "can't allocate memory", "out of memory"))


def free() -> None:
    """Give back what is not in use, so that the next batch finds it."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

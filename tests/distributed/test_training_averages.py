from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from prefopt.distributed.training.averages import Shards


@pytest.mark.parametrize("written", [1, 2, 3])
@pytest.mark.parametrize("read", [1, 2, 3])
def test_parts_are_cut_anew_for_another_number_of_workers(tmp_path: Path, written: int, read: int) -> None:
    tensors = [torch.arange(7.0), torch.arange(100.0, 104.0).reshape(2, 2), torch.tensor([5.0])]
    files = []
    for rank in range(written):
        parts = {f"slow.{i:05d}": Shards(rank, written).part(tensor).clone() for i, tensor in enumerate(tensors)}
        files.append(tmp_path / f"{rank}.safetensors")
        save_file({**parts, "slow.updates": torch.tensor(3), "fast.00000": torch.zeros(1)}, str(files[-1]))
    sizes = [tensor.numel() for tensor in tensors]
    for rank in range(read):
        found = Shards(rank, read).read(files, "slow.", sizes)
        assert sorted(found) == ["00000", "00001", "00002", "updates"]
        assert found["updates"] == 3
        for i, tensor in enumerate(tensors):
            assert torch.equal(found[f"{i:05d}"], Shards(rank, read).part(tensor))

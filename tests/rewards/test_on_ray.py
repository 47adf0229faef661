"""Rewards from outside in the score stage, on actors: their versions in tables and store, and what is done again."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from prefopt.rewards import reward_spec
from prefopt.stages.chain import Chain
from tests.kit.data import distinct, quiet, run_stages, small_config, write_parquet
from tests.rewards.checkpoints import clip_config, clip_state, open_clip_state, write_clip, write_vocabulary
from tests.rewards.endpoint import answer, endpoint

NAMES = ("pickscore", "hpsv2.1", "judge")


def test_rewards_from_outside_score_on_actors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_session: None
) -> None:
    write_parquet(tmp_path / "x.parquet", distinct(6))
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "pick", clip_state(1), clip_config())
    write_vocabulary(tmp_path / "hps")
    torch.save({"state_dict": open_clip_state(2)}, tmp_path / "hps" / "HPS_v2.1_compressed.pt")
    with endpoint(lambda handler, _: answer(handler, b"not yet", 503)) as seen:
        models = {
            "pickscore": {"weights": "pick", "processor": "pick"},
            "hpsv2.1": {"weights": "hps", "tokenizer": "hps"},
            "judge": {"kind": "http", "url": seen.url, "version": "1", "backoff": 0.01},
        }
        settings = small_config(
            tmp_path,
            [{"kind": "pickapic", "path": "x.parquet"}],
            score={"alpha": {"reward": "judge"}, "panel": {"rewards": list(NAMES)}},
            rewards={"cache": "cache", "allow_pickles": True, "models": models},
            cluster={"engine": "ray"},
        )
        output = run_stages(settings, tmp_path / "run", ("ingest", "inject", "score"))["score"]
    rows = pq.read_table(Path(output.storage.path("rewards-00000.parquet"))).to_pylist()
    versions = {name: reward_spec(name, settings).version for name in NAMES}
    assert {(row["reward"], row["version"]) for row in rows} == set(versions.items())
    assert len({row["score"] for row in rows}) == len(rows) == 36
    assert {name: output.manifest.summary[f"reward {name}"] for name in NAMES} == versions
    families = [path.read_text() for path in (tmp_path / "store" / "rewards").glob("*/family.json")]
    assert sorted(next(name for name in NAMES if versions[name] in family) for family in families) == sorted(NAMES)

    def key() -> str:
        chain = Chain(settings, str(tmp_path / "run"), start_engine=lambda: None, progress=quiet)
        return chain.directory("score").uri

    assert key() == output.storage.uri
    save_file({**clip_state(1), "logit_scale": torch.tensor(4.0)}, tmp_path / "pick" / "model.safetensors")
    assert key() != output.storage.uri, "other weights, other scores"
    save_file(clip_state(1), tmp_path / "pick" / "model.safetensors")
    assert key() == output.storage.uri

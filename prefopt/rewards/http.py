"""A reward model behind HTTP: POST {"images": [base64 of PNG], "prompts": [...]}, answer {"scores": [numbers]}.

The answer may also hold "version", which must then be the configured one.
"""

import base64
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from prefopt.config.rewards import HttpModel, shown_url
from prefopt.data.post import ANSWER_BYTES, SHOWN, Answer, NoAnswerError, post_json
from prefopt.errors import RewardError
from prefopt.rewards.base import RewardSpec, UnscorableImageError

VERSION = 1


def http_spec(name: str, model: HttpModel) -> RewardSpec:
    """The reward at a URL. Nothing is asked yet."""
    return RewardSpec(name, version=f"http {VERSION} {model.version}", load=_Load(name, model))


@dataclass(frozen=True)
class _Load:
    name: str
    model: HttpModel

    def __call__(self) -> "HttpReward":
        return HttpReward(self.name, self.model)


class HttpReward:
    """Higher is better. Raises RewardError, without the URL's secrets, when the endpoint gives no usable answer."""

    def __init__(self, name: str, model: HttpModel) -> None:
        self.name = name
        self._model = model
        self._shown = shown_url(model.url)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """float32 [n], in requests of at most `batch` images and `request_mb`."""
        scores: list[float] = []
        for body, count in self._requests([_png(image) for image in images], prompts):
            scores += self._numbers(self._answer(body), count)
        return np.asarray(scores, dtype=np.float32)

    def _requests(self, pngs: Sequence[str], prompts: Sequence[str]) -> Iterator[tuple[bytes, int]]:
        limit, start = int(self._model.request_mb * 1e6), 0
        while start < len(pngs):
            stop = min(start + self._model.batch, len(pngs))
            body = _body(pngs[start:stop], prompts[start:stop])
            while len(body) > limit and stop - start > 1:
                stop = start + (stop - start) // 2
                body = _body(pngs[start:stop], prompts[start:stop])
            if len(body) > limit:
                size = f"{len(body) / 1e6:.3g} MB, above request_mb ({self._model.request_mb:g})"
                raise UnscorableImageError(start, f"as PNG it makes a request of {size}")
            yield body, stop - start
            start = stop

    def _answer(self, body: bytes) -> Answer:
        model = self._model
        try:
            answer = post_json(model.url, body, timeout=model.timeout, retries=model.retries, backoff=model.backoff)
        except NoAnswerError as failure:
            tries = model.retries + 1
            raise RewardError(
                f"Reward model {self.name!r} at {self._shown} gave no answer in"
                f" {tries} {'try' if tries == 1 else 'tries'}; the last: {failure}. See whether it runs, or raise"
                f" timeout, retries or backoff of rewards.models.{self.name}. Finished work is kept: run the same"
                " command again."
            ) from None
        if answer.status != 200:
            raise self._refused(f"answered with status {answer.status} {answer.text}".strip())
        if len(answer.content) > ANSWER_BYTES:
            raise self._refused(f"answered with more than {ANSWER_BYTES} bytes")
        return answer

    def _numbers(self, answered: Answer, count: int) -> list[float]:
        try:
            answer: Any = json.loads(answered.content)
        except (ValueError, RecursionError):
            raise self._refused(f"did not answer with JSON: {answered.text}") from None
        scores = answer.get("scores") if isinstance(answer, dict) else None
        if not isinstance(scores, list) or not all(
            isinstance(x, int | float) and not isinstance(x, bool) for x in scores
        ):
            raise self._refused(f'did not answer with {{"scores": [numbers]}}: {answered.text}')
        if len(scores) != count:
            raise self._refused(f"answered with {len(scores)} scores for {count} images")
        version = answer.get("version", self._model.version)
        if version != self._model.version:
            raise self._refused(
                f"is version {str(version)[:SHOWN]!r} and not {self._model.version!r} as in the config: scores of the"
                " two must not be mixed"
            )
        return scores

    def _refused(self, what: str) -> RewardError:
        return RewardError(
            f"Reward model {self.name!r} at {self._shown} {what}. Mend the endpoint, or leave it out of the config."
        )


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _body(pngs: Sequence[str], prompts: Sequence[str]) -> bytes:
    return json.dumps({"images": list(pngs), "prompts": list(prompts)}).encode()

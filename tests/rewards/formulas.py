"""The reward models' formulas in plain torch, PIL and numpy, on published tensor names."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tests.rewards.checkpoints import LAYERS, MERGES, PATCH, SIDE, TOKENS, VOCABULARY, WORDS, State

MEAN, DEVIATION = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
Act = Callable[[Tensor], Tensor]


def gelu(x: Tensor) -> Tensor:
    """x times the normal distribution function."""
    return 0.5 * x * (1.0 + torch.erf(x / math.sqrt(2.0)))


def quick_gelu(x: Tensor) -> Tensor:
    """OpenAI's approximation."""
    return x / (1.0 + torch.exp(-1.702 * x))


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def norm(state: State, name: str, x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + eps)
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, allowed: Tensor | None = None) -> Tensor:
    """Attention of [T, D] on [S, D]; `allowed` [T, S] says which may be looked at."""
    width = q.shape[-1] // heads
    out = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        logits = q[:, part] @ k[:, part].T / math.sqrt(width)
        if allowed is not None:
            logits = logits.masked_fill(~allowed, -math.inf)
        out.append(torch.softmax(logits, -1) @ v[:, part])
    return torch.cat(out, -1)


@dataclass(frozen=True)
class Block:
    """Names within a layer that normalises first: norm, attention, norm, two linear layers."""

    norms: tuple[str, str]
    qkv: Callable[[State, str, Tensor], tuple[Tensor, Tensor, Tensor]]
    out: str
    mlp: tuple[str, str]

    def __call__(self, state: State, at: str, x: Tensor, heads: int, act: Act, eps: float, causal: bool) -> Tensor:
        allowed = torch.ones(len(x), len(x), dtype=torch.bool).tril() if causal else None
        q, k, v = self.qkv(state, at, norm(state, f"{at}.{self.norms[0]}", x, eps))
        x = x + linear(state, f"{at}.{self.out}", attend(q, k, v, heads, allowed))
        inner = act(linear(state, f"{at}.{self.mlp[0]}", norm(state, f"{at}.{self.norms[1]}", x, eps)))
        return x + linear(state, f"{at}.{self.mlp[1]}", inner)


def _separate(state: State, at: str, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = (linear(state, f"{at}.self_attn.{part}_proj", x) for part in "qkv")
    return q, k, v


def _joined(weight: str, bias: str) -> Callable[[State, str, Tensor], tuple[Tensor, Tensor, Tensor]]:
    def qkv(state: State, at: str, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        both, width = x @ state[f"{at}.{weight}"].T + state[f"{at}.{bias}"], x.shape[-1]
        return both[:, :width], both[:, width : 2 * width], both[:, 2 * width :]

    return qkv


CLIP = Block(("layer_norm1", "layer_norm2"), _separate, "self_attn.out_proj", ("mlp.fc1", "mlp.fc2"))
OPEN_CLIP = Block(
    ("ln_1", "ln_2"), _joined("attn.in_proj_weight", "attn.in_proj_bias"), "attn.out_proj", ("mlp.c_fc", "mlp.c_proj")
)
BLIP = Block(("norm1", "norm2"), _joined("attn.qkv.weight", "attn.qkv.bias"), "attn.proj", ("mlp.fc1", "mlp.fc2"))


def patches(pixels: Tensor, weight: Tensor) -> Tensor:
    """[3, 224, 224] to [tokens, width], one linear map per patch, row by row."""
    count = SIDE // PATCH
    cut = pixels.reshape(3, count, PATCH, count, PATCH).permute(1, 3, 0, 2, 4).reshape(count * count, -1)
    return cut @ weight.reshape(len(weight), -1).T


def clip_image(state: State, pixels: Tensor, heads: int, act: Act) -> Tensor:
    """The embedding of an image, transformers' names."""
    vision = "vision_model"
    x = patches(pixels, state[f"{vision}.embeddings.patch_embedding.weight"])
    x = torch.cat([state[f"{vision}.embeddings.class_embedding"][None], x])
    x = norm(state, f"{vision}.pre_layrnorm", x + state[f"{vision}.embeddings.position_embedding.weight"], 1e-5)
    for number in range(LAYERS):
        x = CLIP(state, f"{vision}.encoder.layers.{number}", x, heads, act, 1e-5, causal=False)
    return norm(state, f"{vision}.post_layernorm", x[0], 1e-5) @ state["visual_projection.weight"].T


def clip_text(state: State, tokens: Sequence[int], heads: int, act: Act) -> Tensor:
    """The embedding of a text at its end token, transformers' names."""
    text = "text_model"
    x = state[f"{text}.embeddings.token_embedding.weight"][list(tokens)]
    x = x + state[f"{text}.embeddings.position_embedding.weight"][: len(tokens)]
    for number in range(LAYERS):
        x = CLIP(state, f"{text}.encoder.layers.{number}", x, heads, act, 1e-5, causal=True)
    return norm(state, f"{text}.final_layer_norm", x[-1], 1e-5) @ state["text_projection.weight"].T


def open_clip_image(state: State, pixels: Tensor) -> Tensor:
    """The embedding of an image, open_clip's names; heads of width 80."""
    x = torch.cat([state["visual.class_embedding"][None], patches(pixels, state["visual.conv1.weight"])])
    x = norm(state, "visual.ln_pre", x + state["visual.positional_embedding"], 1e-5)
    for number in range(LAYERS):
        x = OPEN_CLIP(state, f"visual.transformer.resblocks.{number}", x, x.shape[-1] // 80, gelu, 1e-5, causal=False)
    return norm(state, "visual.ln_post", x[0], 1e-5) @ state["visual.proj"]


def open_clip_text(state: State, tokens: Sequence[int]) -> Tensor:
    """The embedding of a text, open_clip's names; heads of width 64."""
    x = state["token_embedding.weight"][list(tokens)] + state["positional_embedding"][: len(tokens)]
    for number in range(LAYERS):
        x = OPEN_CLIP(state, f"transformer.resblocks.{number}", x, x.shape[-1] // 64, gelu, 1e-5, causal=True)
    return norm(state, "ln_final", x[-1], 1e-5) @ state["text_projection"]


def head(state: State, x: Tensor, prefix: str = "") -> float:
    """Five linear layers with nothing between them."""
    for at in (0, 2, 4, 6, 7):
        x = linear(state, f"{prefix}layers.{at}", x)
    return float(x)


def image_reward(state: State, pixels: Tensor, tokens: Sequence[int]) -> float:
    """BLIP reads the prompt while looking at the image; post-norm layers, 3 heads of width 16."""
    see, read = "blip.visual_encoder", "blip.text_encoder"
    x = patches(pixels, state[f"{see}.patch_embed.proj.weight"]) + state[f"{see}.patch_embed.proj.bias"]
    x = torch.cat([state[f"{see}.cls_token"][0], x]) + state[f"{see}.pos_embed"][0]
    for number in range(LAYERS):
        x = BLIP(state, f"{see}.blocks.{number}", x, x.shape[-1] // 64, gelu, 1e-6, causal=False)
    seen = norm(state, f"{see}.norm", x, 1e-6)
    y = state[f"{read}.embeddings.word_embeddings.weight"][list(tokens)]
    y = y + state[f"{read}.embeddings.position_embeddings.weight"][: len(tokens)]
    y = norm(state, f"{read}.embeddings.LayerNorm", y, 1e-12)
    for number in range(LAYERS):
        at = f"{read}.encoder.layer.{number}"
        for attention, looked in (("attention", None), ("crossattention", seen)):
            other = y if looked is None else looked
            q, k, v = (
                linear(state, f"{at}.{attention}.self.{part}", of)
                for part, of in (("query", y), ("key", other), ("value", other))
            )
            out = linear(state, f"{at}.{attention}.output.dense", attend(q, k, v, 3))
            y = norm(state, f"{at}.{attention}.output.LayerNorm", y + out, 1e-12)
        inner = linear(state, f"{at}.output.dense", gelu(linear(state, f"{at}.intermediate.dense", y)))
        y = norm(state, f"{at}.output.LayerNorm", y + inner, 1e-12)
    return (head(state, y[0], "mlp.") - 0.16717362830052426) / 1.0333394966054072


def cosine(x: Tensor, y: Tensor) -> float:
    return float((x * y).sum() / (x.norm() * y.norm()))


def clip_tokens(prompt: str) -> list[int]:
    """Start, at most 75 tokens, end: byte pairs of words, digits and runs of other signs (ASCII prompts)."""
    found: list[str] = []
    for word in re.findall(r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\sa-z0-9]+", prompt.lower()):
        parts = [*word[:-1], f"{word[-1]}</w>"]
        for first, second in MERGES:
            at = 0
            while at < len(parts) - 1:
                if (parts[at], parts[at + 1]) == (first, second):
                    parts[at : at + 2] = [first + second]
                at += 1
        found += parts
    numbers = [VOCABULARY.index(token) for token in found][: TOKENS - 2]
    return [VOCABULARY.index("<|startoftext|>"), *numbers, VOCABULARY.index("<|endoftext|>")]


def bert_tokens(prompt: str, most: int = 35) -> list[int]:
    """[CLS], word pieces, [SEP]; a word that cannot be put together is [UNK]."""
    found: list[str] = []
    for word in re.findall(r"[a-z]+|[^\sa-z]", prompt.lower()):
        pieces, rest = [], word
        while rest:
            mark = "##" if pieces else ""
            piece = next((rest[:n] for n in range(len(rest), 0, -1) if mark + rest[:n] in WORDS), None)
            if piece is None:
                pieces = ["[UNK]"]
                break
            pieces.append(mark + piece)
            rest = rest[len(piece) :]
        found += pieces
    return [WORDS.index(token) for token in ["[CLS]", *found[: most - 2], "[SEP]"]]


def cropped_pixels(image: Image.Image) -> Tensor:
    """Shorter side to 224 by PIL's bicubic, the middle 224 x 224, normalised."""
    width, height = image.size
    short = min(width, height)
    image = image.resize((int(SIDE * width / short), int(SIDE * height / short)), Image.Resampling.BICUBIC)
    left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
    return _normalised(np.asarray(image.crop((left, top, left + SIDE, top + SIDE)), dtype=np.float64) / 255.0)


def padded_pixels(image: Image.Image, resize: Callable[[np.ndarray, int, int], np.ndarray]) -> Tensor:
    """Longest side to 224, black around the rest, normalised."""
    scale = SIDE / max(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    values = np.asarray(image, dtype=np.float64) / 255.0
    if (width, height) != image.size:
        values = np.stack([resize(values[..., channel], width, height) for channel in range(3)], axis=-1)
    canvas = np.zeros((SIDE, SIDE, 3))
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    canvas[top : top + height, left : left + width] = values
    return _normalised(canvas)


def smooth_bicubic(channel: np.ndarray, width: int, height: int) -> np.ndarray:
    """Bicubic whose kernel is as wide as the step between pixels: PIL on floats."""
    return np.asarray(Image.fromarray(channel.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC))


def pointwise_bicubic(channel: np.ndarray, width: int, height: int) -> np.ndarray:
    """Bicubic (a = -3/4) over the four nearest pixels, however much smaller the image becomes."""
    rows, columns = _cubic_matrix(height, channel.shape[0]), _cubic_matrix(width, channel.shape[1])
    return rows @ channel @ columns.T


def _cubic_matrix(out: int, into: int) -> np.ndarray:
    a, matrix = -0.75, np.zeros((out, into))
    for row in range(out):
        at = (row + 0.5) * into / out - 0.5
        for column in range(math.floor(at) - 1, math.floor(at) + 3):
            d = abs(at - column)
            near = (a + 2) * d**3 - (a + 3) * d**2 + 1
            far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
            matrix[row, min(max(column, 0), into - 1)] += near if d <= 1 else far if d < 2 else 0.0
    return matrix


def _normalised(values: np.ndarray) -> Tensor:
    return torch.from_numpy(((values - MEAN) / DEVIATION).astype(np.float32)).permute(2, 0, 1)

"""What the figures say of a model whose images all turn alike, with the embedded world's VAE."""

import numpy as np
from PIL import Image

from prefopt.config.evaluate import BootstrapConfig
from prefopt.config.root import ModelConfig
from prefopt.evaluation.diversity import feature_figures
from prefopt.evaluation.statistics import Resampling
from prefopt.features import embedded
from prefopt.features.vae import VaeEmbedder
from prefopt.models.loading import load_vae
from prefopt.world.scenes import render, sample_prompt, sample_scene

PROMPTS, SAMPLES = 16, 4


def test_images_that_turn_orange_lose_diversity_and_leave_the_base() -> None:
    rng, embedder = np.random.default_rng(0), VaeEmbedder(load_vae(ModelConfig(path="world")), "cpu")
    prompts = [sample_prompt(rng) for _ in range(PROMPTS)]
    base = [Image.fromarray(render(sample_scene(rng, prompt))) for prompt in prompts for _ in range(SAMPLES)]
    orange = [Image.blend(image, Image.new("RGB", image.size, (255, 128, 0)), 0.7) for image in base]
    brighter = [image.point(lambda value: min(255, value + 4)) for image in base]
    features = {
        name: embedded(embedder, images, batch=32).reshape(PROMPTS, SAMPLES, -1)
        for name, images in (("base", base), ("orange", orange), ("brighter", brighter))
    }
    how = Resampling(BootstrapConfig(resamples=200), seed=0)
    found = feature_figures("vae", "1", features, [str(number) for number in range(PROMPTS)], how)
    base_within = found.diversity["base"].within.value
    collapsed = found.diversity["orange"]
    assert collapsed.within_change.high < -0.5 * base_within
    assert collapsed.across_change.high < 0
    assert found.distance_from_base["orange"].low > 0.5 * base_within
    assert abs(found.diversity["brighter"].within_change.value) < 0.05 * base_within
    assert found.distance_from_base["brighter"].high < 0.05 * base_within

"""The head that LAION's aesthetic predictor and ImageReward share: five linear layers, nothing between them.

The published modules have dropout between the layers, which plays no part in scoring, and no activation functions.
"""

from torch import Tensor, nn

_WIDTHS = (1024, 128, 64, 16, 1)
_POSITIONS = (0, 2, 4, 6, 7)
"""Of the linear layers among the published ones, which are counted with their dropouts."""


class LinearHead(nn.Module):
    """[n, width] to [n]; its names are the published ones, layers.0.weight to layers.7.bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = (width, *_WIDTHS)
        self.layers = nn.ModuleDict({str(at): nn.Linear(widths[i], widths[i + 1]) for i, at in enumerate(_POSITIONS)})

    def forward(self, features: Tensor) -> Tensor:
        """The scores of n feature vectors."""
        for layer in self.layers.values():
            features = layer(features)
        return features[:, 0]

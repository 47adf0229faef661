"""Which files a reward model needs from one place, and which of several forms of its weights is read."""

from collections.abc import Container
from dataclasses import dataclass

from prefopt.errors import InputError

CLIP_VOCABULARY = ("vocab.json", "merges.txt")
CLIP_PIXELS = ("preprocessor_config.json",)


@dataclass(frozen=True)
class FileSet:
    """The files of one place."""

    needed: tuple[str, ...] = ()
    """Configs and vocabularies: all of them."""
    safe: tuple[str, ...] = ()
    """Names that the weights may have as safetensors, the best first."""
    pickled: tuple[str, ...] = ()
    """Names that the weights may have as pickled files."""

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.needed, *self.safe, *self.pickled)

    def choose(self, present: Container[str], where: str, field: str, allow_pickles: bool) -> str | None:
        """The weights to read; None where none belong here.

        InputError, naming the field, if a file is missing, or if the weights are pickled and that is not allowed.
        """
        missing = [name for name in self.needed if name not in present]
        if missing:
            raise InputError(f"{field}: {where} lacks {', '.join(missing)}.")
        if not self.safe and not self.pickled:
            return None
        for name in (*self.safe, *self.pickled):
            if name in present:
                if name in self.pickled and not allow_pickles:
                    raise pickles_refused(f"{where} holds {name}", field, self.safe[0])
                return name
        raise InputError(f"{field}: {where} holds none of {', '.join((*self.safe, *self.pickled))}.")


def pickles_refused(what: str, field: str, safe: str) -> InputError:
    """What is said when pickled weights are not allowed."""
    return InputError(
        f"{field}: {what}, a pickled file, and only safetensors are read unless the config says otherwise. Set"
        " rewards.allow_pickles: true, and it is read without running code from it and converted once per machine; or"
        f" convert it yourself and name a place that holds {safe}."
    )


CLIP_MODEL = FileSet(needed=("config.json",), safe=("model.safetensors",), pickled=("pytorch_model.bin",))

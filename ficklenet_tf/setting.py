"""What is known of one setting of a stage, and how a config checks itself: see configs.py, which this serves."""

import dataclasses
import numbers
from collections.abc import Sequence
from typing import Any

from ficklenet_tf.errors import UserError

MANY = 10**8  # more than anybody wants


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is known of one field.

    Attributes:
      meaning: in one sentence.
      source: the paper that has the default, or "".
      limits: least and greatest number, or None for a word or a switch.
      words: legal words; beside `limits` those that may stand in a number's place.
      remedy: what to do about another word, or "".
      several: whether the field is a tuple of such words.
    """

    meaning: str
    source: str = ""
    limits: tuple[float, float] | None = None
    words: Sequence[str] = ()
    remedy: str = ""
    several: bool = False

    def legal(self) -> str:
        """Returns what the field may be, as text: "0 to 1", "a or b"; nothing for a switch."""
        span = "{:.12g} to {:.12g}".format(*self.limits) if self.limits else ""
        if self.limits and self.limits[1] >= MANY:
            span = f"from {self.limits[0]:g}"
        return " or ".join([*filter(None, [span]), *self.words])


def number(default: Any, limits: tuple[float, float], meaning: str, source: str = "", word: str = "") -> Any:
    """A field that is a number, or a tuple of numbers; or `word`, where there is one."""
    return _field(default, Setting(meaning, source, limits, (word,) if word else ()))


def word(default: str, words: Sequence[str], meaning: str, source: str = "", remedy: str = "") -> Any:
    """A field that is one of `words`."""
    return _field(default, Setting(meaning, source, words=words, remedy=remedy))


def several(default: tuple[str, ...], words: Sequence[str], meaning: str, source: str = "") -> Any:
    """A field that is some of `words`, each once."""
    return _field(default, Setting(meaning, source, words=words, several=True))


def switch(default: bool, meaning: str, source: str = "") -> Any:
    """A field that is true or false."""
    return _field(default, Setting(meaning, source))


def _field(default: Any, setting: Setting) -> Any:
    return dataclasses.field(default=default, metadata={"setting": setting})


def setting_of(field: dataclasses.Field[Any]) -> Setting:
    """Returns the `Setting` of a field of one of these classes."""
    setting: Setting = field.metadata["setting"]
    return setting


class Checked:
    """What the dataclasses below share: they refuse what a `Setting` does not allow."""

    def __post_init__(self) -> None:
        """Checks every field.

        Raises:
          UserError: names the field, what is legal and what was found.
        """
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            setting, value = setting_of(field), getattr(self, field.name)
            if isinstance(value, str) and value in setting.words and not setting.several:
                continue
            if setting.limits is not None:
                _check_number(field, setting, value)
                if hasattr(value, "item"):  # NumPy's: JSON has none
                    object.__setattr__(self, field.name, value.item())
            elif setting.several:
                _check_words(field, setting, value)
            elif setting.words or not isinstance(value, bool):
                raise UserError(f"{field.name}: expected one of {', '.join(setting.words or ('True', 'False'))}, "
                                f"found {value!r}{setting.remedy}")


def _check_number(field: dataclasses.Field[Any], setting: Setting, value: Any) -> None:
    assert setting.limits is not None
    least, most = setting.limits
    many, whole = "tuple" in str(field.type), "float" not in str(field.type)
    given = value if many and isinstance(value, tuple | list) else [value] if not many else []
    sound = [isinstance(n, numbers.Integral if whole else numbers.Real) and not isinstance(n, bool)
             and least <= float(n) <= most for n in given]
    if not sound or not all(sound):
        word = f" or {' or '.join(setting.words)}" if setting.words else ""
        kind = f"{'whole ' if whole else ''}numbers" if many else f"a {'whole ' if whole else ''}number"
        raise UserError(f"{field.name}: expected {kind} from {least:g} to {most:g}{word}, found {value!r}")


def _check_words(field: dataclasses.Field[Any], setting: Setting, value: Any) -> None:
    given = list(value) if isinstance(value, tuple | list) else []
    if not given or len(set(given)) < len(given) or not set(given) <= set(setting.words):
        raise UserError(f"{field.name}: expected some of {', '.join(setting.words)}, each once, found "
                        f"{','.join(map(str, given)) if isinstance(value, tuple | list) else value!r}")

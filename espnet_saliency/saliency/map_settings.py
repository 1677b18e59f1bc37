"""What the maps of an augmentation are maps of: enough to store them, or to tell two apart."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Sequence


@dataclass(frozen=True)
class MapSettings:
    """The names are those of `specaug_conf`, see `SaliencySpecAug`."""

    method: str = "grad_cam"
    layer: str | tuple[str, ...] | None = None
    target: str = "predicted"
    reference_accent: str | None = None
    min_confidence: float = 0.0

    @classmethod
    def from_conf(cls, conf: dict[str, Any], map_methods: Sequence[str]) -> MapSettings:
        """Settings that a `specaug_conf` asks for: a control's map is that of its `map_method`."""
        given = {f.name: conf[f.name] for f in dataclasses.fields(cls) if f.name in conf}
        method = given.get("method", cls.method)
        if method not in map_methods:
            method = conf.get("map_method") or cls.method
        layer = given.get("layer")
        layer = tuple(layer) if isinstance(layer, list) else layer
        sure = float(given.get("min_confidence", 0.0))  # YAML reads 1e-1 as text
        return cls(**{**given, "method": method, "layer": layer, "min_confidence": sure})

    @property
    def unusual(self) -> dict[str, Any]:
        """Method and layer, those of the two alone that are not the usual ones."""
        both = {"method": self.method, "layer": self.layer}
        return {name: value for name, value in both.items() if value != getattr(MapSettings, name)}

    @property
    def storable(self) -> bool:
        """Whether the map of an utterance is always the same: not of a target that is drawn."""
        return self.target != "sample"


def map_name(method: str, layer: str | Sequence[str] | None) -> str:
    """What a reader is told: "layer_cam of encoder.stem"; "" for Grad-CAM of the last layer."""
    if layer is None:
        return "" if method == MapSettings.method else method
    return f"{method} of {layer if isinstance(layer, str) else ' + '.join(layer)}"

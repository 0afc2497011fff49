"""Five moods of light, as a film has them: key, sky, ground and rim in linear light, and a backdrop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lora_data.demo.sdf import Vec

LightName = Literal["day", "sunset", "night", "rim", "overcast"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """One mood. Directions are relative to the camera (azimuth to the picture's right, elevation), in degrees."""

    key_from: tuple[float, float]
    key: Vec
    sky: Vec
    ground: Vec
    rim_from: tuple[float, float]
    rim: Vec
    backdrop: tuple[Vec, Vec, Vec]  # sRGB 0..1: top, horizon, floor


LIGHTS: dict[LightName, Light] = {
    "day": Light(
        key_from=(-38, 42), key=(2.45, 2.25, 1.95), sky=(0.52, 0.62, 0.78), ground=(0.34, 0.29, 0.22),
        rim_from=(150, 35), rim=(0.75, 0.80, 0.85),
        backdrop=((0.42, 0.66, 0.92), (0.80, 0.90, 0.96), (0.46, 0.66, 0.35)),
    ),
    "sunset": Light(
        key_from=(48, 20), key=(2.7, 1.45, 0.72), sky=(0.40, 0.34, 0.52), ground=(0.32, 0.19, 0.15),
        rim_from=(-145, 28), rim=(0.95, 0.45, 0.60),
        backdrop=((0.36, 0.28, 0.52), (0.98, 0.62, 0.38), (0.42, 0.26, 0.24)),
    ),
    "night": Light(
        key_from=(-50, 48), key=(0.40, 0.56, 0.92), sky=(0.09, 0.13, 0.25), ground=(0.05, 0.06, 0.09),
        rim_from=(140, 30), rim=(0.42, 0.62, 1.05),
        backdrop=((0.05, 0.08, 0.20), (0.13, 0.19, 0.36), (0.06, 0.09, 0.14)),
    ),
    "rim": Light(
        key_from=(-60, 25), key=(0.62, 0.52, 0.46), sky=(0.22, 0.22, 0.27), ground=(0.13, 0.12, 0.12),
        rim_from=(152, 40), rim=(4.6, 4.0, 3.1),
        backdrop=((0.16, 0.14, 0.20), (0.44, 0.34, 0.30), (0.16, 0.14, 0.15)),
    ),
    "overcast": Light(
        key_from=(-20, 68), key=(0.78, 0.80, 0.83), sky=(0.86, 0.89, 0.93), ground=(0.36, 0.36, 0.35),
        rim_from=(160, 50), rim=(0.35, 0.36, 0.38),
        backdrop=((0.70, 0.74, 0.78), (0.82, 0.84, 0.85), (0.50, 0.52, 0.48)),
    ),
}  # fmt: skip

"""A small synthetic film: toy characters, several cameras and lights, and the damage that extraction brings."""

from lora_data.demo.film import make_film
from lora_data.demo.render import render_character

__all__ = ["make_film", "render_character"]

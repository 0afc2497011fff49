"""The online half: 3D-safe augmentation. Only the policy is here yet; it is read with the configuration."""

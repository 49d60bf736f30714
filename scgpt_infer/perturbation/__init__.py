"""What a perturbation does to cells: the command ``perturb``."""

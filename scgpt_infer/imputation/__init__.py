"""Values of genes that were hidden or never seen: the command ``impute``."""

"""Networks of genes, from their embeddings or from attention: the command ``grn``."""

"""The Open Inference Protocol v2 (KServe, Triton) over REST, with its binary tensor extension: bodies in, bodies out.

It knows the protocol and this package's nouns; HTTP's headers and statuses are for `scgpt_infer.server.front.kserve`.
"""

"""The report on an embedded file: a page with a map of its cells, their types, samples, quality and origin.

`reading` opens the file, `finding` gathers, `layout` draws the map's places, `payload` packs it, `page` writes HTML.
Only ``obs``, ``obsm`` and ``uns`` are ever read.
"""

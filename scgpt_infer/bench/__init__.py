"""What a machine does with a bundle: speed, memory, start-up, energy and accuracy, measured combination by combination.

`measure.measure` is the whole of it; `table` and `page` show what it gave, `compare` holds two results side by side.
"""

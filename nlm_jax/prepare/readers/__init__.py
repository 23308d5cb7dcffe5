"""Readers of annotations, one module per format; `registry` lists them and chooses one."""

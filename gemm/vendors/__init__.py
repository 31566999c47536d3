"""vendors: other people's CBLAS libraries as kernels. In reading order:

elf.py         what a library's file says of itself, without loading it
makers.py      the libraries that are known: by what one knows them, where they lie, how to get them
libraries.py   which there are: the known ones, and those that the user names
opening.py     one of them loaded: what it really is, and its threads
trampoline.py  the cheapest way from Python to its sgemm and dgemm
calling.py     operands as CBLAS wants them; the call that `bench` times
"""

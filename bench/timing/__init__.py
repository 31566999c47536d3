"""timing: samples of cells and of the machine's ceilings, taken in turn in processes of their own."""

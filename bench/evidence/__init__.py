"""Evidence: the lab's claims about its own numbers, each as something to run.

    python -m bench.evidence.simulated   intervals cover the truth on simulated samples, stopping rule included
    python -m bench.evidence.planted     planted slowdowns of 0 to 10 % come out as planted, live
    python -m bench.evidence.hog         a busy neighbour on the same core, on and off at random
    python -m bench.evidence.order       A then B and B then A give the same ratio
    python -m bench.evidence.idle        what a waiting neighbour costs that is not stopped
    python -m bench.evidence.harness     the lab's time per call against a hand-written loop's; its own overhead
    python -m bench.evidence.crowd       eight Python threads at once, for a minute, every product checked
    python -m bench.evidence.first       a first product: compiled, from the cache, and what follows
    python -m bench.evidence.estimators  MLPClassifier and MLPRegressor beside scikit-learn's, over ten seeds
    python -m bench.evidence.predicted   networks drawn by a seed: predicted, then measured
    python -m bench.evidence.steps       training steps beside PyTorch, scikit-learn and NumPy
    python -m bench.evidence.sanitized   the cuda-* kernels under compute-sanitizer: memory, races, barriers

Each prints what it found. `bench/README.md` says what they gave on one machine.
"""

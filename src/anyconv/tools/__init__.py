"""For looking at formulas and layers: nothing here is needed to compute."""

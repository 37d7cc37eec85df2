"""Studies: several configs over several seeds, run one after the other and compared."""

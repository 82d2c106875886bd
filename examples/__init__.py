"""Programs that use anyconv as anyone would."""

"""The target for SRAM macros that are rewritten while others compute: which macro writes when (docs/targets/sram.md)."""

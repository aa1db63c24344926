"""The crossbar target: chips of many cores, each with crossbar arrays, a vector unit and a local memory."""

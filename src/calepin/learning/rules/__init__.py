"""Update rules of atoms, filters and network weights, one file for each family."""

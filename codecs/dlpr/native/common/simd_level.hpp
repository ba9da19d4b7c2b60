// Choice of an instruction set by name.
#pragma once
#include <cstdlib>
#include <initializer_list>

namespace dlpr {

// What `named` has for DLPR_SIMD, where this processor can run it; else the first of `best` that it can; else scalar.
template <class Table>
const Table* chosen_level(const Table* (*named)(const char*), std::initializer_list<const char*> best) {
  if (const char* want = std::getenv("DLPR_SIMD"))
    if (const Table* table = named(want)) return table;
  for (const char* name : best)
    if (const Table* table = named(name)) return table;
  return named("scalar");
}

}  // namespace dlpr

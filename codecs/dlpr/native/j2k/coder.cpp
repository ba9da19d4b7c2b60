// Choice of the instruction set, once per process, and the usual steps.
#include "j2k/coder.hpp"
#include "common/simd_level.hpp"
#include <cstring>

namespace dlpr {

const J2kCoder* j2k_coder_named(const char* name) {
  if (!std::strcmp(name, "scalar")) return &scalar::j2k_coder_table;
#if defined(__x86_64__)
  const bool wide = !std::strcmp(name, "avx2") || !std::strcmp(name, "avx512");
  if (wide && __builtin_cpu_supports("avx2")) return &avx2::j2k_coder_table;
#endif
  return nullptr;
}

const J2kCoder& j2k_coder() {
  static const J2kCoder* const chosen = chosen_level(j2k_coder_named, {"avx2"});
  return *chosen;
}

void j2k_usual_step(int reversible, int orientation, int depth, int* exponent, int* mantissa) {
  if (reversible) {
    *exponent = 8 + (orientation + 1) / 2, *mantissa = 0;
    return;
  }
  static constexpr int kSteps[6][3][2] = {
      // by depth: LL, HL and LH, HH
      {{8, 0}, {8, 0}, {8, 0}},
      {{9, 36}, {10, 2003}, {10, 1890}},
      {{11, 1874}, {10, 5}, {10, 71}},
      {{12, 1848}, {12, 1872}, {12, 1896}},
      {{13, 1824}, {13, 1792}, {13, 1760}},
      {{14, 1824}, {14, 1776}, {14, 1728}},
  };
  const int* step = kSteps[std::min(depth, 5)][(orientation + 1) / 2];
  *exponent = std::min(step[0] + std::max(depth - 5, 0), 31), *mantissa = step[1];
}

}  // namespace dlpr

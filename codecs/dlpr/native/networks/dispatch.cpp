// Choice of the instruction set, once per process.
#include "common/simd_level.hpp"
#include "networks/kernels.hpp"
#include <cstring>

namespace dlpr {

const Kernels* kernels_named(const char* name) {
  if (!std::strcmp(name, "scalar")) return &scalar::table;
#if defined(__x86_64__)
  if (!std::strcmp(name, "avx2") && __builtin_cpu_supports("avx2")) return &avx2::table;
  if (!std::strcmp(name, "avx512") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512vnni"))
    return &avx512::table;
#endif
  return nullptr;
}

const Kernels& kernels() {
  static const Kernels* const chosen = chosen_level(kernels_named, {"avx512", "avx2"});
  return *chosen;
}

}  // namespace dlpr

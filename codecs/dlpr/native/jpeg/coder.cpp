// Choice of the instruction set, once per process, and the standard quantisation tables.
#include "jpeg/coder.hpp"
#include "common/simd_level.hpp"
#include <cstring>

namespace dlpr {

const JpegCoder* jpeg_coder_named(const char* name) {
  if (!std::strcmp(name, "scalar")) return &scalar::jpeg_coder_table;
#if defined(__x86_64__)
  const bool wide = !std::strcmp(name, "avx2") || !std::strcmp(name, "avx512");
  if (wide && __builtin_cpu_supports("avx2")) return &avx2::jpeg_coder_table;
#endif
  return nullptr;
}

const JpegCoder& jpeg_coder() {
  static const JpegCoder* const chosen = chosen_level(jpeg_coder_named, {"avx2"});
  return *chosen;
}

constexpr uint8_t kIjgLuma[64] = {16, 11, 10, 16, 24,  40,  51,  61,  12, 12, 14, 19, 26,  58,  60,  55,
                                  14, 13, 16, 24, 40,  57,  69,  56,  14, 17, 22, 29, 51,  87,  80,  62,
                                  18, 22, 37, 56, 68,  109, 103, 77,  24, 35, 55, 64, 81,  104, 113, 92,
                                  49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99};
constexpr uint8_t kIjgChroma[64] = {17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
                                    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
                                    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
                                    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99};

void ijg_table(int code, uint16_t* steps) {
  const int quality = code > 100 ? code - 100 : code, scale = quality < 50 ? 5000 / quality : 200 - 2 * quality;
  const uint8_t* base = code > 100 ? kIjgChroma : kIjgLuma;
  for (int k = 0; k < 64; ++k) steps[k] = uint16_t(std::min(std::max((base[k] * scale + 50) / 100, 1), 255));
}

}  // namespace dlpr

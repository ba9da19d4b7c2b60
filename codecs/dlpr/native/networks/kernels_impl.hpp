// Compiled once per instruction set, inside namespace DLPR_ISA. No standard-library templates here: an inline function
// compiled with wide instructions must never be the copy that the linker keeps for everybody.
#include "networks/kernels.hpp"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace dlpr {
namespace DLPR_ISA {
namespace {

#include "networks/lanes.inl"

#include "networks/kernels_dense.inl"

#include "networks/kernels_pixels.inl"

#include "networks/kernels_mixture.inl"

constexpr int kCols = 72;

void gram8(const int16_t* rows, int32_t* acc) {
#if defined(__AVX2__)
  alignas(64) int16_t z[4][kCols * 2];  // row pairs interleaved: z[p][2j], z[p][2j+1] = rows 2p, 2p+1 of column j
  for (int p = 0; p < 4; ++p)
    for (int j = 0; j < kCols; ++j)
      z[p][2 * j] = rows[(2 * p) * kCols + j], z[p][2 * j + 1] = rows[(2 * p + 1) * kCols + j];
  for (int i = 0; i < 70; ++i) {
    __m256i b[4];
    for (int p = 0; p < 4; ++p) {
      int32_t two;
      __builtin_memcpy(&two, &z[p][2 * i], 4);
      b[p] = _mm256_set1_epi32(two);
    }
    int32_t* out = acc + i * kCols;
    for (int j = i / 8 * 8; j < kCols; j += 8) {
      __m256i s = _mm256_loadu_si256((const __m256i*)(out + j));
      for (int p = 0; p < 4; ++p)
        s = _mm256_add_epi32(s, _mm256_madd_epi16(b[p], _mm256_load_si256((const __m256i*)&z[p][2 * j])));
      _mm256_storeu_si256((__m256i*)(out + j), s);
    }
  }
#else
  for (int r = 0; r < 8; ++r)
    for (int i = 0; i < 70; ++i)
      for (int j = i / 8 * 8; j < kCols; ++j) acc[i * kCols + j] += int32_t(rows[r * kCols + i]) * rows[r * kCols + j];
#endif
}

}  // namespace

extern const Kernels table;
const Kernels table = {DLPR_ISA_NAME, gram8,  dense,     layer,   rescale,   windows,
                       causal,        around, transpose, weights, intervals, decode_step};

}  // namespace DLPR_ISA
}  // namespace dlpr

// Luma at the size of subsampled chroma (docs/format section 18): what blocks of 8x8 would hold if luma were halved.
#pragma once
#include "jpeg/image.hpp"

namespace dlpr {

// 2048 sum over n < 4 of c8(u, n) c4(j, n), c the orthonormal cosines of 8 and 4 points
constexpr int kFold[8][4] = {{2048, 0, 0, 0}, {1856, 851, -153, 47},   {0, 2048, 0, 0}, {-652, 1620, 1051, -200},
                             {0, 0, 2048, 0}, {435, -722, 1573, 1004}, {0, 0, 0, 2048}, {-369, 569, -769, 1773}};

// The first 4 coefficients of two neighbours, `step` apart, to 8 of both at half the resolution.
inline void jpeg_fold(const int32_t* a, const int32_t* b, int step, int32_t* out) {
  for (int u = 0; u < 8; ++u) {
    int32_t sum = 2048;
    for (int j = 0; j < 4; ++j) sum += kFold[u][j] * (a[j * step] + ((u + j) & 1 ? -b[j * step] : b[j * step]));
    out[u * step] = sum >> 12;
  }
}

// Round a / b to the nearest, halves away from zero; b > 0; limited to a coefficient's range.
inline int jpeg_steps(int a, int b) {
  const int v = std::min((std::abs(a) + b / 2) / b, kJpegCoefficientMax);
  return a < 0 ? -v : v;
}

}  // namespace dlpr

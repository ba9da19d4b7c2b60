// The adaptive coder of JPEG 2000 images behind one table chosen at run time. Each instruction set is one compilation
// of coder.inl; the scalar one defines the bytes and the others must equal them.
#pragma once
#include "j2k/bands.hpp"
#include "mixed/arith.hpp"

namespace dlpr {

// Arrays of all bands in the order of j2k_bands(); a decoder's coefficients hold zeros.
struct J2kNumbers {
  int32_t* const* q;
  uint8_t* const* passes;
  uint8_t* const* missing;
};

struct J2kCoder {
  const char* name;
  // Steps of the quantiser, passes and coefficients to the bytes of a lane; none where no passes leave such numbers.
  std::vector<uint8_t> (*encode)(J2kFields& f, const J2kNumbers& numbers);
  // The inverse; false: the lane is damaged. The bands' planes follow from the steps: `allot` gives the arrays as soon
  // as these are known, or q = null where there may be no such image.
  bool (*decode)(J2kFields& f, const uint8_t* lane, size_t size, J2kNumbers (*allot)(void*, const J2kFields&),
                 void* owner);
  // Symbols [H][W][components] of the samples beside the image's, to bytes and back; doubts as j2k_synthesise has them.
  std::vector<uint8_t> (*encode_residual)(const ResidualArea& area, const uint8_t* lossy, const uint8_t* doubts,
                                          int16_t* symbols);
  bool (*decode_residual)(const ResidualArea& area, const uint8_t* lossy, const uint8_t* doubts, const uint8_t* lane,
                          size_t size, int16_t* symbols);
};

const J2kCoder& j2k_coder();                        // the best this machine runs, or what DLPR_SIMD names
const J2kCoder* j2k_coder_named(const char* name);  // null if this machine cannot run it

// The step of a band that most encoders take: orientation, decompositions between band and samples.
void j2k_usual_step(int reversible, int orientation, int depth, int* exponent, int* mantissa);

namespace scalar {
extern const J2kCoder j2k_coder_table;
}
#if defined(__x86_64__)
namespace avx2 {
extern const J2kCoder j2k_coder_table;
}
#endif

}  // namespace dlpr

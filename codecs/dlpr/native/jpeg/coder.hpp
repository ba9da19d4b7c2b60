// The adaptive coder behind one table chosen at run time. Each instruction set is one compilation of coder.inl; the
// scalar one defines the bytes and the others must equal them.
#pragma once
#include "jpeg/image.hpp"
#include "mixed/arith.hpp"

namespace dlpr {

struct JpegCoder {
  const char* name;
  // Slots and sets of weights of a state for a number of components.
  void (*state_size)(int components, size_t* slots, size_t* sets);
  // Tables that `codes` says are explicit, and coefficients, to the bytes of a lane. `saved`: the state afterwards, or
  // null.
  std::vector<uint8_t> (*encode)(JpegFields& f, const uint8_t* codes, int16_t* const* q, const MixState* start,
                                 uint32_t* saved_slots, int16_t* saved_weights);
  // The inverse, q holds zeros; false: the lane is damaged.
  bool (*decode)(JpegFields& f, const uint8_t* codes, const uint8_t* lane, size_t size, const MixState* start,
                 int16_t* const* q);
  // Symbols [H][W][components] of the samples beside the JPEG's, to bytes and back.
  std::vector<uint8_t> (*encode_residual)(const JpegFields& f, const uint8_t* jpeg, int16_t* symbols);
  bool (*decode_residual)(const JpegFields& f, const uint8_t* jpeg, const uint8_t* lane, size_t size, int16_t* symbols);
};

const JpegCoder& jpeg_coder();                        // the best this machine runs, or what DLPR_SIMD names
const JpegCoder* jpeg_coder_named(const char* name);  // null if this machine cannot run it

constexpr int kTableAgain = 0, kTableExplicit = 201;  // 1..100 luma, 101..200 chroma at quality 1..100
void ijg_table(int code, uint16_t* steps);

namespace scalar {
extern const JpegCoder jpeg_coder_table;
}
#if defined(__x86_64__)
namespace avx2 {
extern const JpegCoder jpeg_coder_table;
}
#endif

}  // namespace dlpr

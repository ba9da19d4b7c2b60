// What the search for a JPEG asks of mode colour: the planes behind pixels, none of their samples in doubt.
#pragma once
#include "colour/planes.hpp"
#include "jpeg/recover.hpp"

namespace dlpr {

inline bool libjpeg_colours(const uint8_t* x, int h, int w) {
  const FoundLattice found = find_lattice(x, h, w);
  return found.matrix == 1 && found.lattice.rounding == Rounding::kNearest && found.lattice.products == Products::kSum;
}

// A plane of mode colour as a component has it: whole blocks of the JPEG, level 128 taken off, edges continued.
inline FloatPlane plane_on_blocks(const JpegFields& f, int c, const ChromaShape& s, const std::vector<uint8_t>& p) {
  FloatPlane in(s.rows(f.H), s.cols(f.W));
  for (size_t i = 0; i < in.v.size(); ++i) in.v[i] = float(p[i]) - 128;
  // The sample that a chunk's first row is nearest to is sample `start / 2` of the plane.
  auto first = [&](int phase, int factor, int parity) {
    return factor == 1 ? phase : phase / 2 - s.start(2, parity) / 2;
  };
  return on_canvas(in, first(f.phase_y, s.v, s.py), first(f.phase_x, s.h, s.px), f.rows(c) * 8, f.cols(c) * 8, true);
}

// Planes of a JPEG's components from pixels, none of them in doubt; false if its colours or its upsampling are others.
inline bool exact_planes(const uint8_t* x, const JpegFields& f, FloatPlane* out) {
  const ChromaShape whole;
  if (f.components == 1) {
    out[0] = plane_on_blocks(f, 0, whole, std::vector<uint8_t>(x, x + size_t(f.H) * f.W));
    return true;
  }
  if (f.transform && !f.subsampled()) {
    const std::vector<float> samples(x, x + size_t(f.H) * f.W * 3);
    FloatPlane full[3];
    component_planes(samples.data(), f.H, f.W, 3, 1, true, full);
    for (int c = 0; c < 3; ++c) out[c] = on_canvas(full[c], f.phase_y, f.phase_x, f.rows(c) * 8, f.cols(c) * 8, true);
    return true;
  }
  ColourPlanes p;
  if (f.transform == 0 || !ColourAnalysis(x, f.H, f.W).run(p)) return false;
  const Lattice& l = p.found.lattice;
  const ChromaShape& s = p.shape;
  if (p.found.matrix != 1 || l.rounding != Rounding::kNearest || l.products != Products::kSum) return false;
  if (s.v != f.sv || s.h != f.sh) return false;
  if (s.filter != (f.box ? Filter::kRepetition : Filter::kTriangle) || s.py != f.phase_y % s.v ||
      s.px != f.phase_x % s.h)
    return false;
  out[0] = plane_on_blocks(f, 0, whole, p.luma);
  for (int c = 1; c < 3; ++c) out[c] = plane_on_blocks(f, c, s, p.chroma[c - 1]);
  return true;
}

}  // namespace dlpr

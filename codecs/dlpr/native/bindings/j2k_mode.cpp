// Bindings of mode j2k: streams from images and back.
#include "bindings/arrays.hpp"
#include "common/parallel.hpp"
#include "j2k/codec.hpp"
#include <nanobind/stl/string.h>

namespace dlpr {

J2kFields j2k_fields(nb::tuple t);  // bindings/j2k.cpp
nb::tuple j2k_fields_tuple(const J2kFields& f);

namespace {

// Arrays of a J2kImage of Python into a job, checked to fit the bands.
void take_arrays(nb::tuple arrays, J2kEncodeJob& j, std::vector<In<int32_t>>& keep_q, std::vector<In<uint8_t>>& keep) {
  j.bands = j2k_bands(j.f);
  nb::tuple group[3];
  for (int g = 0; g < 3; ++g) {
    group[g] = nb::cast<nb::tuple>(arrays[g]);
    if (group[g].size() != j.bands.size()) throw nb::value_error("J2K bands");
  }
  for (size_t i = 0; i < j.bands.size(); ++i) {
    const J2kBand& b = j.bands[i];
    keep_q.push_back(nb::cast<In<int32_t>>(group[0][i]));
    const auto& q = keep_q.back();
    if (q.ndim() != 2 || int(q.shape(0)) != std::max(b.rows(), 0) || int(q.shape(1)) != std::max(b.cols(), 0))
      throw nb::value_error("J2K coefficients");
    j.q.push_back(const_cast<int32_t*>(q.data()));
    for (int g = 1; g < 3; ++g) {
      keep.push_back(nb::cast<In<uint8_t>>(group[g][i]));
      const auto& a = keep.back();
      if (a.ndim() != 2 || int(a.shape(0)) != b.grid_rows || int(a.shape(1)) != b.grid_cols)
        throw nb::value_error("J2K counts");
      (g == 1 ? j.passes : j.missing).push_back(const_cast<uint8_t*>(a.data()));
    }
    for (size_t n = 0; n < b.blocks(); ++n) {
      const int planes = b.planes - j.missing[i][n], passes = j.passes[i][n];
      if (passes && (planes < 1 || planes > kJ2kMaxPlanes || passes > 3 * planes - 2)) throw nb::value_error("passes");
    }
  }
}

nb::bytes bytes_of(const std::vector<uint8_t>& v) {
  return nb::bytes(reinterpret_cast<const char*>(v.data()), v.size());
}

// jobs: list of (fields, arrays, planes uint8 [H,W,components] in coding order, tau, most) -> list of (lane, residual
// part, reconstruction), or None where more than `most` of the samples have a residual or the image is too large.
nb::list j2k_encode_batch(nb::list jobs, int threads) {
  std::vector<J2kEncodeJob> work(jobs.size());
  std::vector<In<int32_t>> keep_q;
  std::vector<In<uint8_t>> keep;
  for (size_t i = 0; i < work.size(); ++i) {
    nb::tuple t = nb::cast<nb::tuple>(jobs[i]);
    J2kEncodeJob& j = work[i];
    j.f = j2k_fields(nb::cast<nb::tuple>(t[0]));
    take_arrays(nb::cast<nb::tuple>(t[1]), j, keep_q, keep);
    keep.push_back(nb::cast<In<uint8_t>>(t[2]));
    const auto& x = keep.back();
    j.tau = nb::cast<int>(t[3]), j.most = nb::cast<double>(t[4]);
    if (x.ndim() != 3 || int(x.shape(0)) != j.f.kept_height() || int(x.shape(1)) != j.f.kept_width() ||
        int(x.shape(2)) != j.f.components || j.tau < 0 || j.tau > 255)
      throw nb::value_error("J2K planes");
    j.x = x.data();
  }
  {
    nb::gil_scoped_release free_gil;
    parallel_for(int(work.size()), threads, [&](int i) { j2k_encode_job(work[size_t(i)]); });
  }
  nb::list out;
  for (const auto& j : work) {
    if (!j.done) {
      out.append(nb::none());
      continue;
    }
    auto planes = copied(j.out.data(), {size_t(j.f.kept_height()), size_t(j.f.kept_width()), size_t(j.f.components)});
    out.append(nb::make_tuple(bytes_of(j.lane), bytes_of(j.residual), planes));
  }
  return out;
}

// jobs: list of (fields with any steps, tau, lane, residual part or None for the J2K image alone) -> list of (planes
// uint8 [H,W,components] in coding order, "") or (None, error text).
nb::list j2k_decode_batch(nb::list jobs, int threads) {
  std::vector<J2kDecodeJob> work(jobs.size());
  std::vector<const char*> errors(jobs.size(), "");
  std::vector<nb::bytes> keep;
  for (size_t i = 0; i < work.size(); ++i) {
    nb::tuple t = nb::cast<nb::tuple>(jobs[i]);
    J2kDecodeJob& j = work[i];
    j.f = j2k_fields(nb::cast<nb::tuple>(t[0]));
    j.tau = nb::cast<int>(t[1]), j.lossy_only = t[3].is_none();
    if (j.tau < 0 || j.tau > 255) throw nb::value_error("tau");
    auto view = [&](nb::handle h, const uint8_t*& p, size_t& n) {
      keep.push_back(nb::cast<nb::bytes>(h));
      p = reinterpret_cast<const uint8_t*>(keep.back().c_str()), n = keep.back().size();
    };
    view(t[2], j.lane, j.lane_size);
    if (!j.lossy_only) view(t[3], j.residual, j.residual_size);
  }
  {
    nb::gil_scoped_release free_gil;
    parallel_for(int(work.size()), threads, [&](int i) { errors[size_t(i)] = j2k_decode_job(work[size_t(i)]); });
  }
  nb::list out;
  for (size_t i = 0; i < work.size(); ++i) {
    const J2kFields& f = work[i].f;
    nb::object planes = nb::none();
    if (!*errors[i])
      planes = nb::cast(
          adopt(work[i].out.release(), {size_t(f.kept_height()), size_t(f.kept_width()), size_t(f.components)}));
    out.append(nb::make_tuple(planes, errors[i]));
  }
  return out;
}

// The image that a lane holds: (error text, fields, coefficients, passes, missing).
nb::tuple j2k_coefficients(nb::tuple fields, nb::bytes lane) {
  J2kFields f = j2k_fields(fields);
  J2kDecoded d;
  bool good;
  {
    nb::gil_scoped_release free_gil;
    good = j2k_read(f, reinterpret_cast<const uint8_t*>(lane.c_str()), lane.size(), d);
  }
  if (!good) return nb::make_tuple("the lossy part is damaged", nb::none(), nb::none(), nb::none(), nb::none());
  nb::list q, passes, missing;
  J2kImage& image = d.image;
  for (size_t i = 0; i < image.bands.size(); ++i) {
    const J2kBand& b = image.bands[i];
    const size_t rows = size_t(std::max(b.rows(), 0)), cols = size_t(std::max(b.cols(), 0));
    q.append(adopt(image.q[i].release(), {rows, cols}));
    passes.append(adopt(image.passes[i].release(), {size_t(b.grid_rows), size_t(b.grid_cols)}));
    missing.append(adopt(image.missing[i].release(), {size_t(b.grid_rows), size_t(b.grid_cols)}));
  }
  return nb::make_tuple("", j2k_fields_tuple(f), nb::tuple(q), nb::tuple(passes), nb::tuple(missing));
}

}  // namespace
}  // namespace dlpr

void bind_j2k_mode(nb::module_& m) {
  using namespace dlpr;
  m.def("j2k_encode_batch", &j2k_encode_batch, "jobs"_a, "threads"_a);
  m.def("j2k_decode_batch", &j2k_decode_batch, "jobs"_a, "threads"_a);
  m.def("j2k_coefficients", &j2k_coefficients, "fields"_a, "lane"_a);
  m.def("j2k_simd", [] { return j2k_coder().name; });
}

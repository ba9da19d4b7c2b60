// Bindings of the JPEG layer, a translation unit of their own.
#include "bindings/arrays.hpp"
#include "common/parallel.hpp"
#include "jpeg/codec.hpp"
#include "jpeg/parse.hpp"
#include "jpeg/restarts.hpp"
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

namespace dlpr {

// (height, width, phase y, phase x, transform, sampling v, h, box, crop, and tables uint16 [components, 64] or the
// number of components)
JpegFields jpeg_fields(nb::tuple t, bool with_tables = true) {
  if (t.size() != 10) throw nb::value_error("JPEG fields");
  JpegFields f;
  int* into[] = {&f.H, &f.W, &f.phase_y, &f.phase_x, &f.transform, &f.sv, &f.sh, &f.box, &f.crop};
  for (int i = 0; i < 9; ++i) *into[i] = nb::cast<int>(t[i]);
  if (with_tables) {
    auto tables = nb::cast<In<uint16_t>>(t[9]);
    if (tables.ndim() != 2 || tables.shape(0) > 3 || tables.shape(1) != 64) throw nb::value_error("JPEG tables");
    f.components = int(tables.shape(0));
    for (int c = 0; c < f.components; ++c) std::copy_n(tables.data() + 64 * c, 64, f.tables[c]);
  } else {
    f.components = nb::cast<int>(t[9]);
    for (auto& table : f.tables) std::fill(table, table + 64, uint16_t(1));
  }
  if (!f.good()) throw nb::value_error("JPEG field out of range");
  return f;
}

// The coefficients' arrays, checked to fit the fields.
struct JpegArrays {
  std::vector<In<int16_t>> keep;
  const int16_t* q[3] = {};
  JpegArrays(const JpegFields& f, nb::list arrays) {
    if (int(arrays.size()) != f.components) throw nb::value_error("JPEG components");
    for (int c = 0; c < f.components; ++c) {
      keep.push_back(nb::cast<In<int16_t>>(arrays[c]));
      const auto& a = keep.back();
      if (a.ndim() != 4 || int(a.shape(0)) != f.rows(c) || int(a.shape(1)) != f.cols(c) || a.shape(2) != 8 ||
          a.shape(3) != 8)
        throw nb::value_error("JPEG coefficients");
      q[c] = a.data();
    }
  }
};

nb::object jpeg_synthesise_array(nb::tuple fields, nb::list arrays) {
  const JpegFields f = jpeg_fields(fields);
  const JpegArrays a(f, arrays);
  uint8_t* p = new uint8_t[size_t(f.H) * f.W * f.components];
  auto out = adopt(p, {size_t(f.H), size_t(f.W), size_t(f.components)});
  {
    nb::gil_scoped_release free_gil;
    const int order[3] = {0, 1, 2};
    jpeg_synthesise(f, a.q, p, order);
  }
  return nb::cast(out);
}

// (error text, height, width, (sampling v, h), (jfif, adobe transform or -1, component ids), tables, coefficients)
nb::tuple jpeg_parse_bytes(nb::bytes data, nb::bytes tables) {
  ParsedJpeg out;
  {
    nb::gil_scoped_release free_gil;
    jpeg_parse(reinterpret_cast<const uint8_t*>(tables.c_str()), tables.size(),
               reinterpret_cast<const uint8_t*>(data.c_str()), data.size(), out);
  }
  const JpegFields& f = out.fields;
  nb::list quant, coefficients, ids;
  for (int c = 0; out.error.empty() && c < f.components; ++c) {
    uint16_t* t = new uint16_t[64];
    std::copy_n(f.tables[c], 64, t);
    quant.append(adopt(t, {8, 8}));
    int16_t* q = new int16_t[out.q[c].size()];
    std::copy(out.q[c].begin(), out.q[c].end(), q);
    coefficients.append(adopt(q, {size_t(f.rows(c)), size_t(f.cols(c)), 8, 8}));
    ids.append(out.ids[c]);
  }
  return nb::make_tuple(out.error, f.H, f.W, nb::make_tuple(f.sv, f.sh),
                        nb::make_tuple(out.jfif, out.adobe ? out.adobe_transform : -1, ids), quant, coefficients);
}

// A scan without restart markers with one behind each row of MCUs: (error text, MCUs in a row, bytes, starts of rows).
nb::tuple jpeg_add_restarts(nb::bytes header, nb::bytes scan) {
  RestartedScan out;
  {
    nb::gil_scoped_release free_gil;
    JpegRestarts(reinterpret_cast<const uint8_t*>(header.c_str()), header.size(),
                 reinterpret_cast<const uint8_t*>(scan.c_str()), scan.size(), out);
  }
  if (!out.error.empty()) out.data.clear(), out.starts.clear();
  uint64_t* starts = new uint64_t[out.starts.size()];
  std::copy(out.starts.begin(), out.starts.end(), starts);
  nb::bytes data(reinterpret_cast<const char*>(out.data.data()), out.data.size());
  return nb::make_tuple(out.error, out.mcu_cols, data, adopt(starts, {out.starts.size()}));
}

// A prior for the coder, kept alive: (slots uint32, weights int16 [sets, 8]) as jpeg_prior_learn gives them, or None.
struct JpegStart {
  std::vector<In<uint32_t>> slots;
  std::vector<In<int16_t>> weights;
  MixState state;
  JpegStart(const JpegFields& f, nb::handle given) {
    if (given.is_none()) return;
    nb::tuple t = nb::cast<nb::tuple>(given);
    slots.push_back(nb::cast<In<uint32_t>>(t[0])), weights.push_back(nb::cast<In<int16_t>>(t[1]));
    jpeg_coder().state_size(f.components, &state.slot_count, &state.set_count);
    if (slots[0].size() != state.slot_count || weights[0].size() != state.set_count * kInputs)
      throw nb::value_error("JPEG prior of another size");
    state.slots = slots[0].data(), state.weights = weights[0].data();
  }
  const MixState* get() const { return state.slots ? &state : nullptr; }
};

nb::bytes as_bytes(const std::vector<uint8_t>& v) {
  return nb::bytes(reinterpret_cast<const char*>(v.data()), v.size());
}

// jobs: list of (fields, coefficients, planes uint8 [H,W,components] in coding order, tau, most, prior) -> list of
// (lossy part, residual part, reconstruction), or None where more than `most` of the samples have a residual.
nb::list jpeg_encode_batch(nb::list jobs, int threads) {
  std::vector<JpegEncodeJob> work(jobs.size());
  std::vector<JpegArrays> arrays;
  std::vector<In<uint8_t>> planes;
  std::vector<JpegStart> starts;
  starts.reserve(work.size());
  arrays.reserve(work.size());
  for (size_t i = 0; i < work.size(); ++i) {
    nb::tuple t = nb::cast<nb::tuple>(jobs[i]);
    JpegEncodeJob& j = work[i];
    j.f = jpeg_fields(nb::cast<nb::tuple>(t[0]));
    arrays.emplace_back(j.f, nb::cast<nb::list>(t[1]));
    planes.push_back(nb::cast<In<uint8_t>>(t[2]));
    const auto& x = planes.back();
    j.tau = nb::cast<int>(t[3]), j.most = nb::cast<double>(t[4]);
    starts.emplace_back(j.f, t[5]);
    j.start = starts.back().get();
    if (x.ndim() != 3 || int(x.shape(0)) != j.f.H || int(x.shape(1)) != j.f.W || int(x.shape(2)) != j.f.components ||
        j.tau < 0 || j.tau > 255)
      throw nb::value_error("JPEG planes");
    std::copy_n(arrays.back().q, 3, j.q);
    j.x = x.data();
  }
  {
    nb::gil_scoped_release free_gil;
    parallel_for(int(work.size()), threads, [&](int i) { jpeg_encode(work[i]); });
  }
  nb::list out;
  for (auto& j : work) {
    if (!j.done) {
      out.append(nb::none());
      continue;
    }
    uint8_t* p = new uint8_t[j.out.size()];
    std::copy(j.out.begin(), j.out.end(), p);
    out.append(nb::make_tuple(as_bytes(j.lossy), as_bytes(j.residual),
                              adopt(p, {size_t(j.f.H), size_t(j.f.W), size_t(j.f.components)})));
  }
  return out;
}

// jobs: list of (fields with the number of components, tau, lossy part, residual part or None for the JPEG alone,
// prior)
// -> list of (planes uint8 [H,W,components] in coding order, "") or (None, error text).
nb::list jpeg_decode_batch(nb::list jobs, int threads) {
  std::vector<JpegDecodeJob> work(jobs.size());
  std::vector<const char*> errors(jobs.size(), "");
  std::vector<nb::bytes> keep;
  std::vector<JpegStart> starts;
  starts.reserve(work.size());
  for (size_t i = 0; i < work.size(); ++i) {
    nb::tuple t = nb::cast<nb::tuple>(jobs[i]);
    JpegDecodeJob& j = work[i];
    j.f = jpeg_fields(nb::cast<nb::tuple>(t[0]), false);
    j.tau = nb::cast<int>(t[1]), j.lossy_only = t[3].is_none();
    starts.emplace_back(j.f, t[4]);
    j.start = starts.back().get();
    if (j.tau < 0 || j.tau > 255) throw nb::value_error("tau");
    auto view = [&](nb::handle h, const uint8_t*& p, size_t& n) {
      keep.push_back(nb::cast<nb::bytes>(h));
      p = reinterpret_cast<const uint8_t*>(keep.back().c_str()), n = keep.back().size();
    };
    view(t[2], j.lossy, j.lossy_size);
    if (!j.lossy_only) view(t[3], j.residual, j.residual_size);
  }
  {
    nb::gil_scoped_release free_gil;
    parallel_for(int(work.size()), threads, [&](int i) { errors[i] = jpeg_decode(work[i]); });
  }
  nb::list out;
  for (size_t i = 0; i < work.size(); ++i) {
    const JpegFields& f = work[i].f;
    nb::object planes = nb::none();
    if (!*errors[i]) planes = nb::cast(adopt(work[i].out.release(), {size_t(f.H), size_t(f.W), size_t(f.components)}));
    out.append(nb::make_tuple(planes, errors[i]));
  }
  return out;
}

// Coefficients of a lossy part: (error text, tables, coefficients); the fields as in jpeg_decode_batch.
nb::tuple jpeg_coefficients(nb::tuple fields, nb::bytes lossy, nb::object prior) {
  JpegFields f = jpeg_fields(fields, false);
  const JpegStart start(f, prior);
  std::vector<int16_t> q[3];
  const char* wrong;
  {
    nb::gil_scoped_release free_gil;
    wrong = jpeg_read_coefficients(f, reinterpret_cast<const uint8_t*>(lossy.c_str()), lossy.size(), start.get(), q);
  }
  nb::list tables, coefficients;
  for (int c = 0; !*wrong && c < f.components; ++c) {
    uint16_t* t = new uint16_t[64];
    std::copy_n(f.tables[c], 64, t);
    tables.append(adopt(t, {8, 8}));
    int16_t* p = new int16_t[q[c].size()];
    std::copy(q[c].begin(), q[c].end(), p);
    coefficients.append(adopt(p, {size_t(f.rows(c)), size_t(f.cols(c)), 8, 8}));
  }
  return nb::make_tuple(wrong, tables, coefficients);
}

// The lossy part of a stream of mode jpeg with these coefficients: what jpeg_coefficients reads.
nb::bytes jpeg_pack(nb::tuple fields, nb::list arrays, nb::object prior) {
  JpegFields f = jpeg_fields(fields);
  const JpegArrays a(f, arrays);
  const JpegStart start(f, prior);
  std::vector<uint8_t> out;
  {
    nb::gil_scoped_release free_gil;
    out = jpeg_lossy_part(f, a.q, start.get());
  }
  return as_bytes(out);
}

// What the coder has learnt after images, a list of (fields, coefficients) with equal numbers of components, one after
// the other: (slots uint32, weights int16 [sets, 8]).
nb::tuple jpeg_prior_learn(nb::list images) {
  std::vector<JpegFields> fields;
  std::vector<JpegArrays> arrays;
  arrays.reserve(images.size());
  for (nb::handle image : images) {
    nb::tuple t = nb::cast<nb::tuple>(image);
    fields.push_back(jpeg_fields(nb::cast<nb::tuple>(t[0])));
    arrays.emplace_back(fields.back(), nb::cast<nb::list>(t[1]));
    if (fields.back().components != fields[0].components) throw nb::value_error("JPEG components");
  }
  if (fields.empty()) throw nb::value_error("no images");
  MixState state;
  jpeg_coder().state_size(fields[0].components, &state.slot_count, &state.set_count);
  std::unique_ptr<uint32_t[]> slots(new uint32_t[state.slot_count]);
  std::unique_ptr<int16_t[]> weights(new int16_t[state.set_count * kInputs]);
  {
    nb::gil_scoped_release free_gil;
    for (size_t i = 0; i < fields.size(); ++i) {
      JpegFields& f = fields[i];
      uint8_t codes[3];
      for (int c = 0; c < f.components; ++c) codes[c] = uint8_t(table_code(f.tables[c], c ? f.tables[c - 1] : nullptr));
      int16_t* at[3] = {};
      for (int c = 0; c < f.components; ++c) at[c] = const_cast<int16_t*>(arrays[i].q[c]);  // only a decoder writes
      jpeg_coder().encode(f, codes, at, i ? &state : nullptr, slots.get(), weights.get());
      state.slots = slots.get(), state.weights = weights.get();
    }
  }
  return nb::make_tuple(adopt(slots.release(), {state.slot_count}),
                        adopt(weights.release(), {state.set_count, size_t(kInputs)}));
}

}  // namespace dlpr

void bind_jpeg(nb::module_& m) {
  using namespace dlpr;
  m.def("jpeg_synthesise", &jpeg_synthesise_array, "fields"_a, "coefficients"_a);
  m.def("jpeg_encode_batch", &jpeg_encode_batch, "jobs"_a, "threads"_a);
  m.def("jpeg_decode_batch", &jpeg_decode_batch, "jobs"_a, "threads"_a);
  m.def("jpeg_coefficients", &jpeg_coefficients, "fields"_a, "lossy"_a, "prior"_a.none());
  m.def("jpeg_pack", &jpeg_pack, "fields"_a, "coefficients"_a, "prior"_a.none());
  m.def("jpeg_prior_learn", &jpeg_prior_learn, "images"_a);
  m.def("jpeg_simd", [] { return jpeg_coder().name; });
  m.def("jpeg_parse", &jpeg_parse_bytes, "data"_a, "tables"_a);
  m.def("jpeg_add_restarts", &jpeg_add_restarts, "header"_a, "scan"_a);
}

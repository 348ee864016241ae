#include "bindings/model_file.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bindings/errors.h"
#include "bindings/numpy_arrays.h"
#include "files/model_file.h"
#include "files/saved_model.h"
#include "runtime/loaded_model.h"

namespace fastmnist::bindings {
namespace {

namespace py = pybind11;

class File {
 public:
  explicit File(const std::string& path) {
    const py::gil_scoped_release unlocked;
    file_ = unwrap(ModelFile::open(path));
  }

  py::bytes content() const { return {file_->content().data(), file_->content().size()}; }
  std::vector<std::string_view> keys(const std::string& model) const {
    return file_->keys(unwrap(file_->find(model)));
  }

  py::array array(const std::string& model, const std::string& key) const {
    const std::size_t which = unwrap(file_->find(model));
    fastmnist::Array read;
    {
      const py::gil_scoped_release unlocked;
      read = unwrap(file_->array(which, key));
    }
    const py::dtype dtype{std::string(about(read.dtype()).numpy)};
    if (!read.is_owned()) {  // of a compressed file, which keeps it
      py::array copy(dtype, read.shape());
      if (!read.bytes().empty())
        std::memcpy(copy.mutable_data(), read.bytes().data(), read.bytes().size());
      return copy;
    }
    auto owner = std::make_unique<fastmnist::Array>(std::move(read));
    const fastmnist::Array& kept = *owner;
    const py::capsule memory(owner.release(),
                             [](void* array) { delete static_cast<fastmnist::Array*>(array); });
    return {dtype, kept.shape(), kept.bytes().data(), memory};
  }

 private:
  std::unique_ptr<ModelFile> file_;
};

// A model as programs without Python have it: read, packed and run by the library alone.
class NativeModel {
 public:
  NativeModel(const std::string& path, const std::string& name) {
    const py::gil_scoped_release unlocked;
    const std::unique_ptr<ModelFile> file = unwrap(ModelFile::open(path));
    SavedGraph saved = unwrap(read_model(*file, unwrap(file->find(name))));
    model_ = unwrap(LoadedModel::make(std::move(saved), PlanBy::kStored, default_measurements()));
  }

  bool takes_pixels() const { return model_->inputs().size() == 1 && model_->inputs()[0].pixels; }

  // Rows of the one input, [N, values]; each output as [N, values].
  py::list run(const py::array& rows) const {
    const bool pixels = rows.dtype().is(py::dtype::of<std::uint8_t>());
    if (!pixels && !rows.dtype().is(py::dtype::of<float>()))
      throw py::type_error("rows: expected float32 or uint8");
    const auto& inputs = model_->inputs();
    if (inputs.size() != 1 || rows.ndim() != 2 || rows.shape(1) != inputs[0].size ||
        (rows.flags() & py::array::c_style) == 0)
      invalid("rows", "[N, " + std::to_string(inputs[0].size) + "], contiguous, of one input",
              shape_text(rows));
    py::list outputs;
    std::vector<void*> to;
    for (const LoadedModel::Output& output : model_->outputs()) {
      py::array made(output.indexes ? py::dtype::of<std::int64_t>() : py::dtype::of<float>(),
                     std::vector<py::ssize_t>{rows.shape(0), output.size});
      to.push_back(made.mutable_data());
      outputs.append(std::move(made));
    }
    const GraphInput input[] = {{pixels ? RowType::kPixels : RowType::kFloat32, rows.data()}};
    {
      const py::gil_scoped_release unlocked;
      unwrap(model_->run(input, rows.shape(0), to));
    }
    return outputs;
  }

 private:
  std::unique_ptr<LoadedModel> model_;
};

}  // namespace

void register_model_file(py::module_& module) {
  py::class_<File>(module, "ModelFile", "What fm.save wrote: a description, and arrays by name.")
      .def(py::init<std::string>(), py::arg("path"))
      .def("content", &File::content)
      .def("keys", &File::keys, py::arg("model"))
      .def("array", &File::array, py::arg("model"), py::arg("key"));
  py::class_<NativeModel>(module, "NativeModel", "A saved model as programs without Python run it.")
      .def(py::init<std::string, std::string>(), py::arg("path"), py::arg("model"))
      .def_property_readonly("takes_pixels", &NativeModel::takes_pixels)
      .def("run", &NativeModel::run, py::arg("rows").noconvert());
}

}  // namespace fastmnist::bindings

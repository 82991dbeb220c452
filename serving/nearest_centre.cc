// NearestCentre: for each row of `embeddings` the number of the nearest row of `centres`, as KMeans.predict says it.
//
// A custom op for comparison. TensorFlow's own ops do the same without a compiler and without a server of your own.
// Built against the headers of the installed wheel:
//   g++ -shared -fPIC -O3 nearest_centre.cc -o nearest_centre.so \
//       $(python -c "import tensorflow as tf; print(*tf.sysconfig.get_compile_flags(), *tf.sysconfig.get_link_flags())")

#include <cmath>
#include <cstdint>

#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/util/work_sharder.h"

namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::errors::InvalidArgument;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

absl::Status InferShape(InferenceContext* context) {
  ShapeHandle embeddings, centres;
  TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 2, &embeddings));
  TF_RETURN_IF_ERROR(context->WithRank(context->input(1), 2, &centres));
  DimensionHandle width;
  TF_RETURN_IF_ERROR(context->Merge(context->Dim(embeddings, 1), context->Dim(centres, 1), &width));
  context->set_output(0, context->Vector(context->Dim(embeddings, 0)));
  return absl::OkStatus();
}

REGISTER_OP("NearestCentre")
    .Input("embeddings: double")
    .Input("centres: double")
    .Output("labels: int64")
    .SetShapeFn(InferShape)
    .Doc("The number of the nearest centre for each row; of centres equally near, the first.");

class NearestCentreOp : public OpKernel {
 public:
  explicit NearestCentreOp(OpKernelConstruction* construction) : OpKernel(construction) {}

  void Compute(OpKernelContext* context) override {
    const Tensor& embeddings = context->input(0);
    const Tensor& centres = context->input(1);
    // A server may feed any shape: what the shape function saw in the graph may have been unknown.
    OP_REQUIRES(context, embeddings.dims() == 2 && centres.dims() == 2,
                InvalidArgument("NearestCentre takes embeddings (n, d) and centres (k, d); came ",
                                embeddings.shape().DebugString(), " and ", centres.shape().DebugString(), "."));
    OP_REQUIRES(context, embeddings.dim_size(1) == centres.dim_size(1),
                InvalidArgument("NearestCentre: embeddings have ", embeddings.dim_size(1), " columns, centres ",
                                centres.dim_size(1), "."));
    OP_REQUIRES(context, centres.dim_size(0) > 0, InvalidArgument("NearestCentre: there is no centre."));

    const int64_t n = embeddings.dim_size(0), k = centres.dim_size(0), width = centres.dim_size(1);
    const double* const x = embeddings.matrix<double>().data();
    const double* const c = centres.matrix<double>().data();
    for (int64_t i = 0; i < n * width; ++i) {
      OP_REQUIRES(context, std::isfinite(x[i]), InvalidArgument("NearestCentre: embeddings hold NaN or infinity."));
    }
    Tensor* output = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({n}), &output));
    int64_t* const labels = output->flat<int64_t>().data();

    const auto label_rows = [=](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        double least = 0;
        for (int64_t centre = 0; centre < k; ++centre) {
          double distance = 0;
          for (int64_t j = 0; j < width; ++j) {
            const double difference = x[row * width + j] - c[centre * width + j];
            distance += difference * difference;
          }
          // Strictly less: of equals the first stays, as in argmin.
          if (centre == 0 || distance < least) {
            least = distance;
            labels[row] = centre;
          }
        }
      }
    };
    const auto& threads = *context->device()->tensorflow_cpu_worker_threads();
    tensorflow::Shard(threads.num_threads, threads.workers, n, /*cost_per_unit=*/3 * k * width, label_rows);
  }
};

REGISTER_KERNEL_BUILDER(Name("NearestCentre").Device(tensorflow::DEVICE_CPU), NearestCentreOp);

}  // namespace

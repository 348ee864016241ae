/* fastmnist without Python: load a model from a file or from memory, give it rows, get its answers.
 *
 *     fastmnist_model* model = NULL;
 *     if (fastmnist_load("digits.safetensors", "int8", NULL, &model) != FASTMNIST_OK) {
 *       fprintf(stderr, "%s\n", fastmnist_last_error());
 *       return 1;
 *     }
 *     fastmnist_predict_u8(model, pixels, rows, logits);   // uint8_t [rows, 784] to float [rows, 10]
 *     fastmnist_free(model);
 *
 * C99, and C++ (model.hpp has classes). Answers have the same bits as in Python (float32 layers: as
 * in a compiled model there), on every machine, for every number of rows and threads. Nothing here
 * throws or ends the process, whatever a file holds; a function that can fail returns a status, and
 * fastmnist_last_error() says why.
 *
 * Rows are contiguous, one behind the other, each of as many values as the model's input has: an
 * image of 28 x 28 is 784. uint8 values are pixels, 0 to 255, and only for models that know what a
 * pixel stands for (fastmnist_takes_pixels). Floats are aligned as C aligns them. A row with NaN
 * gives NaN.
 *
 * Any number of threads may use one model at once. A model is freed when no call uses it any more.
 */
#ifndef FASTMNIST_FASTMNIST_H
#define FASTMNIST_FASTMNIST_H

#include <stddef.h>
#include <stdint.h>

#if defined(FASTMNIST_STATIC)
#define FASTMNIST_C_API
#else
#define FASTMNIST_C_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Goes up when something below changes its meaning; new functions alone do not change it. */
#define FASTMNIST_ABI 1

typedef enum fastmnist_status {
  FASTMNIST_OK = 0,
  FASTMNIST_INVALID = 1,   /* an argument, the file or what is in it is not as it should be */
  FASTMNIST_NO_MEMORY = 2, /* it would take more memory than there is */
  FASTMNIST_NOT_FOUND = 3, /* no such file, or no model of that name in it */
} fastmnist_status;

/* ---- what is there ----------------------------------------------------------------------------
 */

/* "0.1.0"; and FASTMNIST_ABI of the library that was linked. */
FASTMNIST_C_API const char* fastmnist_version(void);
FASTMNIST_C_API int fastmnist_abi(void);

/* The instruction set in use: "scalar", "avx2", "avx512_vnni", "amx_int8", ... FASTMNIST_ISA in the
 * environment caps it. NULL where that variable holds no such name: fastmnist_last_error says which
 * there are. */
FASTMNIST_C_API const char* fastmnist_isa(void);

/* What this thread's last function that failed (a status, or fastmnist_isa's NULL) had to say:
 * "argument: expected ..., got ...". "" before. Valid until this thread's next call that fails. */
FASTMNIST_C_API const char* fastmnist_last_error(void);

/* Threads that a call with many rows may use: by default FASTMNIST_NUM_THREADS, else the CPUs that
 * the process may use. 1 to 1024; 0 goes back to the default. */
FASTMNIST_C_API fastmnist_status fastmnist_set_num_threads(int threads);
FASTMNIST_C_API int fastmnist_num_threads(void);

/* ---- files ------------------------------------------------------------------------------------
 */

/* What fm.save wrote. Opening reads the description alone; numbers are read, and checked, when a
 * model is loaded. */
typedef struct fastmnist_file fastmnist_file;

FASTMNIST_C_API fastmnist_status fastmnist_open(const char* path, fastmnist_file** file);
/* The bytes must stay as they are until the file is closed; loaded models do not need them. */
FASTMNIST_C_API fastmnist_status fastmnist_open_memory(const void* bytes, size_t size,
                                                       fastmnist_file** file);
FASTMNIST_C_API void fastmnist_close(fastmnist_file* file);

/* The models in it, in order. NULL where i is too large; texts live as long as the file. */
FASTMNIST_C_API size_t fastmnist_models(const fastmnist_file* file);
FASTMNIST_C_API const char* fastmnist_model_name(const fastmnist_file* file, size_t i);

/* The file's description as JSON (docs/format.md): recipes, changes, accuracies as plain facts. */
FASTMNIST_C_API const char* fastmnist_description(const fastmnist_file* file);

/* ---- models -----------------------------------------------------------------------------------
 */

typedef struct fastmnist_model fastmnist_model;

/* How the kernel of each layer is chosen. It never changes an answer. */
typedef enum fastmnist_plan {
  FASTMNIST_PLAN_STORED = 0,   /* by times measured on this machine before, else by a rule */
  FASTMNIST_PLAN_FIXED = 1,    /* by the rule */
  FASTMNIST_PLAN_MEASURED = 2, /* measured now, where it was not before: up to seconds */
} fastmnist_plan;

typedef struct fastmnist_options {
  size_t size; /* sizeof(fastmnist_options): later versions may have more fields */
  fastmnist_plan plan;
  /* The file of measured times; NULL: the one that Python uses, in the user's cache folder. */
  const char* measurements;
} fastmnist_options;

/* options: NULL for the defaults. name: NULL where the file has one model. *model is NULL where it
 * fails. A file may be closed when its models are loaded. */
FASTMNIST_C_API fastmnist_status fastmnist_load(const char* path, const char* name,
                                                const fastmnist_options* options,
                                                fastmnist_model** model);
FASTMNIST_C_API fastmnist_status fastmnist_load_memory(const void* bytes, size_t size,
                                                       const char* name,
                                                       const fastmnist_options* options,
                                                       fastmnist_model** model);
FASTMNIST_C_API fastmnist_status fastmnist_load_from(const fastmnist_file* file, const char* name,
                                                     const fastmnist_options* options,
                                                     fastmnist_model** model);
FASTMNIST_C_API void fastmnist_free(fastmnist_model* model);

/* Bytes that it holds, packed for this machine. */
FASTMNIST_C_API size_t fastmnist_bytes(const fastmnist_model* model);

/* ---- what goes in and comes out ----------------------------------------------------------------
 */

/* Most models have one input and one output; then i is 0. For an i that there is not: NULL, 0. */
FASTMNIST_C_API size_t fastmnist_inputs(const fastmnist_model* model);
FASTMNIST_C_API size_t fastmnist_outputs(const fastmnist_model* model);
/* "x" and "output" where the model has no names for them. Valid as long as the model. */
FASTMNIST_C_API const char* fastmnist_input_name(const fastmnist_model* model, size_t i);
FASTMNIST_C_API const char* fastmnist_output_name(const fastmnist_model* model, size_t i);

/* Values of a row. */
FASTMNIST_C_API size_t fastmnist_input_size(const fastmnist_model* model, size_t i);
FASTMNIST_C_API size_t fastmnist_output_size(const fastmnist_model* model, size_t i);

/* A row's dimensions: how many, at most `most` of them written to `shape`. 0: a number alone, or,
 * of an input, any shape of that many values. */
FASTMNIST_C_API size_t fastmnist_input_shape(const fastmnist_model* model, size_t i, size_t* shape,
                                             size_t most);
FASTMNIST_C_API size_t fastmnist_output_shape(const fastmnist_model* model, size_t i, size_t* shape,
                                              size_t most);

/* Whether the input may be pixels; whether the output is int64 indexes (of a model that ends in arg
 * max), not floats. 1 or 0. */
FASTMNIST_C_API int fastmnist_takes_pixels(const fastmnist_model* model, size_t i);
FASTMNIST_C_API int fastmnist_gives_indexes(const fastmnist_model* model, size_t i);

/* ---- answers ----------------------------------------------------------------------------------
 */

/* Of models with one input and one output. outputs: [rows, fastmnist_output_size], written whole,
 * or not at all where the status is not FASTMNIST_OK. It must not overlap `values`. No rows
 * are no error. */
FASTMNIST_C_API fastmnist_status fastmnist_predict_u8(const fastmnist_model* model,
                                                      const uint8_t* values, size_t rows,
                                                      float* outputs);
FASTMNIST_C_API fastmnist_status fastmnist_predict_f32(const fastmnist_model* model,
                                                       const float* values, size_t rows,
                                                       float* outputs);

/* The index of the largest of each row's outputs, the first of equals; NaN counts as largest. Of
 * models with at least two outputs a row, of one dimension. classes: [rows]. */
FASTMNIST_C_API fastmnist_status fastmnist_classify_u8(const fastmnist_model* model,
                                                       const uint8_t* values, size_t rows,
                                                       int64_t* classes);
FASTMNIST_C_API fastmnist_status fastmnist_classify_f32(const fastmnist_model* model,
                                                        const float* values, size_t rows,
                                                        int64_t* classes);

/* Of any model: an array for each input, and one for each output, float or int64_t as
 * fastmnist_gives_indexes says. */
typedef enum fastmnist_type { FASTMNIST_FLOAT32 = 0, FASTMNIST_PIXELS = 1 } fastmnist_type;
typedef struct fastmnist_rows {
  fastmnist_type type;
  const void* values;
} fastmnist_rows;
FASTMNIST_C_API fastmnist_status fastmnist_run(const fastmnist_model* model,
                                               const fastmnist_rows* inputs, size_t input_count,
                                               size_t rows, void* const* outputs,
                                               size_t output_count);

#ifdef __cplusplus
}
#endif

#endif

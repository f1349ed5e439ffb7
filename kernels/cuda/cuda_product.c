/* Products by cuBLASLt. Row-major y = x W^T is, to the library's column-major eyes, y^T = W x^T: W goes in
 * transposed, x as it lies, and a bias for each column of y is one for each row of its matrix.
 *
 * What the library is asked for, and why
 *   - Epilogues: BIAS, GELU, GELU_BIAS; the bias has y's type, as its table of types wants it. The residual
 * is C = D = y with beta 1, which goes together with a bias (the manual: a zero beta is faster).
 *   - CUBLAS_COMPUTE_32F: sums in f32, f32 operands as they are. Where a long sum is cut into parts they meet
 *     in f32 too (the reduction scheme), not in a bf16 y.
 *   - Alignment: 16 bytes, the widest access there is, or else the element's own; x comes as it comes, so a
 *     plan is for one of the two. */
#include "kernels/cuda/cuda_product.h"

#include <assert.h>
#include <cublasLt.h>
#include <stdlib.h>
#include <string.h>

enum {
    PLANS_MAX = 64,
    ALIGNMENT = 16,
};

/* What NVIDIA recommends as a workspace for cuBLAS, from Hopper on and before. Products in f32 are no work
 * for tensor cores and get by with little. */
#define WORKSPACE_HOPPER ((size_t)32 << 20)
#define WORKSPACE_OTHER ((size_t)4 << 20)

/* How to do it for so many rows. */
struct plan {
    size_t rows;
    bool aligned;
    bool possible; /* false: the library has no algorithm */
    cublasLtMatmulAlgo_t algorithm;
};

struct sac_cuda_product {
    sac_device *device;
    struct sac_cuda_product_params params;
    size_t workspace_bytes;
    cublasLtMatmulDescOpaque_t operation;
    cublasLtMatrixLayoutOpaque_t weight;
    pthread_mutex_t lock;
    struct plan plans[PLANS_MAX]; /* a ring: the oldest is replaced */
    uint64_t plan_count;          /* made so far */
};

/* Layouts are made for a call and cost nothing: what a plan keeps is the algorithm alone, copied out under
 * the lock, so that nobody uses what another thread replaces. */
struct layouts {
    cublasLtMatrixLayoutOpaque_t x, y;
};

static sac_cuda_device *cuda_device(sac_device *device)
{
    return (sac_cuda_device *)device;
}

static cudaDataType cuda_type(sac_dtype dtype)
{
    return dtype == SAC_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static sac_status blas_status(sac_device *device, cublasStatus_t status)
{
    cudaError_t error;

    switch (status) {
    case CUBLAS_STATUS_SUCCESS:
        return SAC_OK;
    case CUBLAS_STATUS_NOT_SUPPORTED:
        return SAC_UNSUPPORTED;
    case CUBLAS_STATUS_ALLOC_FAILED:
    case CUBLAS_STATUS_NOT_INITIALIZED: /* what cublasLtCreate says where there is no room */
        return SAC_DEVICE_MEMORY;
    case CUBLAS_STATUS_EXECUTION_FAILED:
    case CUBLAS_STATUS_MAPPING_ERROR:
    case CUBLAS_STATUS_INTERNAL_ERROR: /* the runtime may know more: a recording that had failed before, say
                                        */
        error = cudaPeekAtLastError();
        return sac_cuda_status(device, error != cudaSuccess ? error : cudaErrorUnknown);
    default: /* the call was wrong, the device is well */
        return SAC_INTERNAL;
    }
}

/* ---- the library's handle ---------------------------------------------------------------------------- */

/* Made with a device's first layer, because a search needs none; used by all of its threads. */
static sac_status open_blas(sac_cuda_device *d, sac_error *err)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    cublasLtHandle_t made = NULL;
    sac_status st;

    pthread_mutex_lock(&lock);
    if (d->blas == NULL) {
        st = sac_cuda_status(&d->base, cudaSetDevice(d->ordinal));
        if (st == SAC_OK)
            status = cublasLtCreate(&made);
        if (st == SAC_OK)
            st = blas_status(&d->base, status);
        if (st == SAC_OK)
            d->blas = made;
    } else {
        st = SAC_OK;
    }
    pthread_mutex_unlock(&lock);
    if (st == SAC_OK)
        return SAC_OK;
    return sac_fail(err, st, "cuda:%d: cuBLASLt does not start: status %d", d->ordinal, (int)status);
}

void sac_cuda_blas_close(void *blas)
{
    if (blas != NULL)
        (void)cublasLtDestroy((cublasLtHandle_t)blas);
}

/* ---- a layer's product --------------------------------------------------------------------------------- */

static cublasLtEpilogue_t epilogue(const struct sac_cuda_product_params *p)
{
    if (p->gelu)
        return p->bias != NULL ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    return p->bias != NULL ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

static cublasStatus_t describe(sac_cuda_product *product)
{
    const struct sac_cuda_product_params *p = &product->params;
    const int32_t transposed = CUBLAS_OP_T;
    const uint32_t after = epilogue(p);
    cublasStatus_t status = cublasLtMatmulDescInit(&product->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);

    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulDescSetAttribute(&product->operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                                sizeof transposed);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulDescSetAttribute(&product->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &after,
                                                sizeof after);
    if (status == CUBLAS_STATUS_SUCCESS && p->bias != NULL)
        status = cublasLtMatmulDescSetAttribute(&product->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                                &p->bias, sizeof p->bias);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatrixLayoutInit(&product->weight, cuda_type(p->x_dtype), p->in, p->out, p->in);
    return status;
}

sac_status sac_cuda_product_open(sac_device *device, const struct sac_cuda_product_params *p,
                                 sac_cuda_product **out, sac_error *err)
{
    sac_cuda_product *product;
    cublasStatus_t status;
    sac_status st = open_blas(cuda_device(device), err);

    assert(p->x_dtype == SAC_BF16 || p->y_dtype == SAC_F32);
    assert(!p->gelu || !p->residual);
    *out = NULL;
    if (st != SAC_OK)
        return st;
    product = (sac_cuda_product *)calloc(1, sizeof *product);
    if (product == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for the product of a layer");
    product->device = device;
    product->params = *p;
    product->workspace_bytes =
        p->x_dtype == SAC_BF16 && cuda_device(device)->capability >= 90 ? WORKSPACE_HOPPER : WORKSPACE_OTHER;
    status = describe(product);
    if (status != CUBLAS_STATUS_SUCCESS) {
        free(product);
        return sac_fail(err, SAC_INTERNAL, "cuBLASLt refuses a layer of %u times %u weights: status %d",
                        p->out, p->in, (int)status);
    }
    pthread_mutex_init(&product->lock, NULL);
    *out = product;
    return SAC_OK;
}

void sac_cuda_product_close(sac_cuda_product *product)
{
    if (product == NULL)
        return;
    pthread_mutex_destroy(&product->lock);
    free(product);
}

size_t sac_cuda_product_workspace(const sac_cuda_product *product)
{
    return product->workspace_bytes;
}

/* ---- plans --------------------------------------------------------------------------------------------- */

static cublasStatus_t lay_out(const struct sac_cuda_product_params *p, size_t rows, struct layouts *out)
{
    cublasStatus_t status = cublasLtMatrixLayoutInit(&out->x, cuda_type(p->x_dtype), p->in, rows, p->in);

    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatrixLayoutInit(&out->y, cuda_type(p->y_dtype), p->out, rows, p->out);
    return status;
}

static cublasStatus_t state_preference(const sac_cuda_product *product, bool aligned,
                                       cublasLtMatmulPreferenceOpaque_t *out)
{
    const struct sac_cuda_product_params *p = &product->params;
    const uint64_t workspace = product->workspace_bytes;
    const uint32_t x = aligned ? ALIGNMENT : p->x_dtype == SAC_BF16 ? 2 : 4;
    const uint32_t y = aligned ? ALIGNMENT : p->y_dtype == SAC_BF16 ? 2 : 4;
    const uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const struct {
        cublasLtMatmulPreferenceAttributes_t name;
        const void *value;
        size_t bytes;
    } attributes[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reduction, sizeof reduction},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &x, sizeof x},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &y, sizeof y},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &y, sizeof y},
    };
    cublasStatus_t status = cublasLtMatmulPreferenceInit(out);

    for (size_t i = 0; status == CUBLAS_STATUS_SUCCESS && i < sizeof attributes / sizeof attributes[0]; i++)
        status = cublasLtMatmulPreferenceSetAttribute(out, attributes[i].name, attributes[i].value,
                                                      attributes[i].bytes);
    return status;
}

/* Asks the library's heuristics, which look at shapes and at the chip's properties and run nothing. */
static cublasStatus_t make_plan(sac_cuda_product *product, struct layouts *layouts, struct plan *plan)
{
    cublasLtHandle_t blas = (cublasLtHandle_t)cuda_device(product->device)->blas;
    cublasLtMatmulPreferenceOpaque_t preference;
    cublasLtMatmulHeuristicResult_t best;
    int found = 0;
    cublasStatus_t status = state_preference(product, plan->aligned, &preference);

    memset(&best, 0, sizeof best);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulAlgoGetHeuristic(blas, &product->operation, &product->weight, &layouts->x,
                                                &layouts->y, &layouts->y, &preference, 1, &best, &found);
    plan->possible = status == CUBLAS_STATUS_SUCCESS && found > 0 && best.state == CUBLAS_STATUS_SUCCESS;
    plan->algorithm = best.algo;
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE)
        return CUBLAS_STATUS_SUCCESS; /* such as odd rows of bf16: somebody else multiplies */
    return status;
}

/* plan->rows and ->aligned say what for. */
static cublasStatus_t find_plan(sac_cuda_product *product, struct layouts *layouts, struct plan *plan)
{
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    uint64_t i;

    pthread_mutex_lock(&product->lock);
    for (i = 0; i < product->plan_count && i < PLANS_MAX; i++)
        if (product->plans[i].rows == plan->rows && product->plans[i].aligned == plan->aligned)
            break;
    if (i < product->plan_count && i < PLANS_MAX) {
        *plan = product->plans[i];
    } else {
        status = make_plan(product, layouts, plan);
        if (status == CUBLAS_STATUS_SUCCESS)
            product->plans[product->plan_count++ % PLANS_MAX] = *plan;
    }
    pthread_mutex_unlock(&product->lock);
    return status;
}

sac_status sac_cuda_product_run(sac_cuda_product *product, sac_stream *stream, const void *x, size_t rows,
                                void *y, void *workspace)
{
    const struct sac_cuda_product_params *p = &product->params;
    cublasLtHandle_t blas = (cublasLtHandle_t)cuda_device(product->device)->blas;
    cudaStream_t cuda = sac_cuda_stream_of(stream);
    const float one = 1.0f, beta = p->residual ? 1.0f : 0.0f;
    struct plan plan = {rows, ((uintptr_t)x | (uintptr_t)y) % ALIGNMENT == 0, false, {{0}}};
    struct layouts layouts;
    cublasStatus_t status = lay_out(p, rows, &layouts);

    assert(rows > 0 && rows <= INT32_MAX && (uintptr_t)workspace % 256 == 0);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = find_plan(product, &layouts, &plan);
    if (status == CUBLAS_STATUS_SUCCESS && !plan.possible) {
        (void)cudaGetLastError(); /* what the library may have left there, the next launch would report */
        return SAC_UNSUPPORTED;
    }
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmul(blas, &product->operation, &one, p->weight, &product->weight, x, &layouts.x,
                                &beta, y, &layouts.y, y, &layouts.y, &plan.algorithm, workspace,
                                product->workspace_bytes, cuda);
    return blas_status(product->device, status);
}

/* api.h -- the part of the CUDA runtime's interface that saccade uses, with CUDA's names and numbers. For C
 * too: the backend's own files are plain C. */
#ifndef CUDA_HOST_API_H
#define CUDA_HOST_API_H

#ifdef __cplusplus
#include "vectors.h"
#define CUDA_HOST_DEFAULT(value) = value
#define CUDA_HOST_STREAM(number) (reinterpret_cast<cudaStream_t>(number))
extern "C" {
#else
#include <stddef.h>
#define CUDA_HOST_DEFAULT(value)
#define CUDA_HOST_STREAM(number) ((cudaStream_t)(number))
#endif

#define CUDART_VERSION 13000
#define CUDART_CB

#define CUDA_HOST_ERRORS(X)                                                                                \
    X(cudaSuccess, 0, "no error")                                                                          \
    X(cudaErrorInvalidValue, 1, "invalid argument")                                                        \
    X(cudaErrorMemoryAllocation, 2, "out of memory")                                                       \
    X(cudaErrorInitializationError, 3, "initialization error")                                             \
    X(cudaErrorCudartUnloading, 4, "cudart unloading")                                                     \
    X(cudaErrorInvalidConfiguration, 9, "invalid configuration")                                           \
    X(cudaErrorInvalidMemcpyDirection, 21, "invalid memcpy direction")                                     \
    X(cudaErrorInsufficientDriver, 35, "insufficient driver")                                              \
    X(cudaErrorDevicesUnavailable, 46, "devices unavailable")                                              \
    X(cudaErrorInvalidDeviceFunction, 98, "invalid device function")                                       \
    X(cudaErrorNoDevice, 100, "no CUDA-capable device is detected")                                        \
    X(cudaErrorInvalidDevice, 101, "invalid device")                                                       \
    X(cudaErrorInvalidKernelImage, 200, "device kernel image is invalid")                                  \
    X(cudaErrorDeviceUninitialized, 201, "device uninitialized")                                           \
    X(cudaErrorNoKernelImageForDevice, 209, "no kernel image for device")                                  \
    X(cudaErrorECCUncorrectable, 214, "ecc uncorrectable")                                                 \
    X(cudaErrorUnsupportedLimit, 215, "unsupported limit")                                                 \
    X(cudaErrorPeerAccessUnsupported, 217, "peer access unsupported")                                      \
    X(cudaErrorInvalidPtx, 218, "invalid ptx")                                                             \
    X(cudaErrorNvlinkUncorrectable, 220, "nvlink uncorrectable")                                           \
    X(cudaErrorJitCompilerNotFound, 221, "PTX JIT compiler library not found")                             \
    X(cudaErrorUnsupportedPtxVersion, 222, "the provided PTX was compiled with an unsupported toolchain.") \
    X(cudaErrorJitCompilationDisabled, 223, "PTX JIT compilation was disabled")                            \
    X(cudaErrorOperatingSystem, 304, "operating system")                                                   \
    X(cudaErrorInvalidResourceHandle, 400, "invalid resource handle")                                      \
    X(cudaErrorIllegalState, 401, "illegal state")                                                         \
    X(cudaErrorSymbolNotFound, 500, "symbol not found")                                                    \
    X(cudaErrorNotReady, 600, "device not ready")                                                          \
    X(cudaErrorIllegalAddress, 700, "an illegal memory access was encountered")                            \
    X(cudaErrorLaunchOutOfResources, 701, "launch out of resources")                                       \
    X(cudaErrorLaunchTimeout, 702, "launch timeout")                                                       \
    X(cudaErrorPeerAccessAlreadyEnabled, 704, "peer access already enabled")                               \
    X(cudaErrorPeerAccessNotEnabled, 705, "peer access not enabled")                                       \
    X(cudaErrorContextIsDestroyed, 709, "context is destroyed")                                            \
    X(cudaErrorAssert, 710, "assert")                                                                      \
    X(cudaErrorHostMemoryAlreadyRegistered, 712, "host memory already registered")                         \
    X(cudaErrorHostMemoryNotRegistered, 713, "host memory not registered")                                 \
    X(cudaErrorHardwareStackError, 714, "hardware stack error")                                            \
    X(cudaErrorIllegalInstruction, 715, "illegal instruction")                                             \
    X(cudaErrorMisalignedAddress, 716, "misaligned address")                                               \
    X(cudaErrorInvalidAddressSpace, 717, "invalid address space")                                          \
    X(cudaErrorInvalidPc, 718, "invalid pc")                                                               \
    X(cudaErrorLaunchFailure, 719, "unspecified launch failure")                                           \
    X(cudaErrorNotPermitted, 800, "not permitted")                                                         \
    X(cudaErrorNotSupported, 801, "not supported")                                                         \
    X(cudaErrorSystemNotReady, 802, "system not ready")                                                    \
    X(cudaErrorSystemDriverMismatch, 803, "system driver mismatch")                                        \
    X(cudaErrorStreamCaptureUnsupported, 900, "stream capture unsupported")                                \
    X(cudaErrorStreamCaptureInvalidated, 901, "stream capture invalidated")                                \
    X(cudaErrorStreamCaptureMerge, 902, "stream capture merge")                                            \
    X(cudaErrorStreamCaptureUnmatched, 903, "stream capture unmatched")                                    \
    X(cudaErrorStreamCaptureUnjoined, 904, "stream capture unjoined")                                      \
    X(cudaErrorStreamCaptureIsolation, 905, "stream capture isolation")                                    \
    X(cudaErrorStreamCaptureImplicit, 906, "stream capture implicit")                                      \
    X(cudaErrorCapturedEvent, 907, "captured event")                                                       \
    X(cudaErrorStreamCaptureWrongThread, 908, "stream capture wrong thread")                               \
    X(cudaErrorTimeout, 909, "timeout")                                                                    \
    X(cudaErrorGraphExecUpdateFailure, 910, "graph exec update failure")                                   \
    X(cudaErrorUnknown, 999, "unknown")

typedef enum cudaError {
#define X(name, number, text) name = number,
    CUDA_HOST_ERRORS(X)
#undef X
} cudaError_t;

const char *cudaGetErrorName(cudaError_t error);
const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError(void);
cudaError_t cudaPeekAtLastError(void);

/* ---- devices ---------------------------------------------------------------------------------------- */

typedef struct cudaUUID_st {
    char bytes[16];
} cudaUUID_t;

struct cudaDeviceProp {
    char name[256];
    cudaUUID_t uuid;
    size_t totalGlobalMem;
    size_t sharedMemPerBlock;
    int regsPerBlock;
    int warpSize;
    int maxThreadsPerBlock;
    int maxThreadsDim[3];
    int maxGridSize[3];
    size_t totalConstMem;
    int major, minor;
    int multiProcessorCount;
    int integrated;
    int canMapHostMemory;
    int concurrentKernels;
    int ECCEnabled;
    int pciBusID, pciDeviceID, pciDomainID;
    int asyncEngineCount;
    int unifiedAddressing;
    int memoryBusWidth;
    int l2CacheSize;
    int persistingL2CacheMaxSize;
    int accessPolicyMaxWindowSize;
    int maxThreadsPerMultiProcessor;
    size_t sharedMemPerMultiprocessor;
    size_t sharedMemPerBlockOptin;
    size_t reservedSharedMemPerBlock;
    int regsPerMultiprocessor;
    int maxBlocksPerMultiProcessor;
    int cooperativeLaunch;
    int managedMemory;
    int pageableMemoryAccess;
    int memoryPoolsSupported;
};

enum cudaDeviceAttr {
    cudaDevAttrMaxThreadsPerBlock = 1,
    cudaDevAttrMaxSharedMemoryPerBlock = 8,
    cudaDevAttrWarpSize = 10,
    cudaDevAttrClockRate = 13,
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrIntegrated = 18,
    cudaDevAttrCanMapHostMemory = 19,
    cudaDevAttrMemoryClockRate = 36,
    cudaDevAttrGlobalMemoryBusWidth = 37,
    cudaDevAttrL2CacheSize = 38,
    cudaDevAttrMaxThreadsPerMultiProcessor = 39,
    cudaDevAttrAsyncEngineCount = 40,
    cudaDevAttrUnifiedAddressing = 41,
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrComputeCapabilityMinor = 76,
    cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
    cudaDevAttrMaxRegistersPerMultiprocessor = 82,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};

#define cudaDeviceScheduleAuto 0x00u
#define cudaDeviceScheduleSpin 0x01u
#define cudaDeviceScheduleYield 0x02u
#define cudaDeviceScheduleBlockingSync 0x04u
#define cudaDeviceMapHost 0x08u

cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaSetDeviceFlags(unsigned flags);
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device);
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device);
cudaError_t cudaDeviceGetPCIBusId(char *text, int bytes, int device);
cudaError_t cudaDeviceSynchronize(void);
cudaError_t cudaDeviceReset(void);
cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer);
cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags);
cudaError_t cudaDeviceDisablePeerAccess(int peer);
cudaError_t cudaMemGetInfo(size_t *free, size_t *total);

/* ---- memory ------------------------------------------------------------------------------------------ */

typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
typedef struct CUgraph_st *cudaGraph_t;
typedef struct CUgraphExec_st *cudaGraphExec_t;

#define cudaStreamLegacy CUDA_HOST_STREAM(0x1)
#define cudaStreamPerThread CUDA_HOST_STREAM(0x2)

enum cudaMemcpyKind {
    cudaMemcpyHostToHost = 0,
    cudaMemcpyHostToDevice = 1,
    cudaMemcpyDeviceToHost = 2,
    cudaMemcpyDeviceToDevice = 3,
    cudaMemcpyDefault = 4,
};

enum cudaMemoryType {
    cudaMemoryTypeUnregistered = 0,
    cudaMemoryTypeHost = 1,
    cudaMemoryTypeDevice = 2,
    cudaMemoryTypeManaged = 3,
};

struct cudaPointerAttributes {
    enum cudaMemoryType type;
    int device;
    void *devicePointer;
    void *hostPointer;
};

#define cudaHostAllocDefault 0x00u
#define cudaHostAllocPortable 0x01u
#define cudaHostAllocMapped 0x02u
#define cudaHostAllocWriteCombined 0x04u
#define cudaHostRegisterDefault 0x00u
#define cudaHostRegisterPortable 0x01u
#define cudaHostRegisterMapped 0x02u

cudaError_t cudaMalloc(void **p, size_t bytes);
cudaError_t cudaFree(void *p);
cudaError_t cudaMallocHost(void **p, size_t bytes);
cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned flags);
cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned flags);
cudaError_t cudaHostUnregister(void *p);
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *p);
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream CUDA_HOST_DEFAULT(0));
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, enum cudaMemcpyKind kind,
                              cudaStream_t stream CUDA_HOST_DEFAULT(0));
cudaError_t cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t bytes,
                                cudaStream_t stream CUDA_HOST_DEFAULT(0));
cudaError_t cudaMemset(void *p, int value, size_t bytes);
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream CUDA_HOST_DEFAULT(0));

/* ---- streams, events, graphs --------------------------------------------------------------------------- */

#define cudaStreamDefault 0x00u
#define cudaStreamNonBlocking 0x01u
#define cudaEventDefault 0x00u
#define cudaEventBlockingSync 0x01u
#define cudaEventDisableTiming 0x02u
#define cudaEventInterprocess 0x04u
#define cudaEventRecordDefault 0x00u
#define cudaEventWaitDefault 0x00u

enum cudaStreamCaptureMode {
    cudaStreamCaptureModeGlobal = 0,
    cudaStreamCaptureModeThreadLocal = 1,
    cudaStreamCaptureModeRelaxed = 2,
};

enum cudaStreamCaptureStatus {
    cudaStreamCaptureStatusNone = 0,
    cudaStreamCaptureStatusActive = 1,
    cudaStreamCaptureStatusInvalidated = 2,
};

typedef void (*cudaHostFn_t)(void *data);

cudaError_t cudaStreamCreate(cudaStream_t *stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority);
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags CUDA_HOST_DEFAULT(0));
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status);
cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode);

cudaError_t cudaEventCreate(cudaEvent_t *event);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream CUDA_HOST_DEFAULT(0));
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end);

enum cudaGraphExecUpdateResult {
    cudaGraphExecUpdateSuccess = 0,
    cudaGraphExecUpdateError = 1,
    cudaGraphExecUpdateErrorTopologyChanged = 2,
};

typedef struct cudaGraphExecUpdateResultInfo_st {
    enum cudaGraphExecUpdateResult result;
} cudaGraphExecUpdateResultInfo;

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph,
                                 unsigned long long flags CUDA_HOST_DEFAULT(0));
cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph, cudaGraphExecUpdateResultInfo *info);
cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);

/* ---- kernels --------------------------------------------------------------------------------------------
 */

enum cudaFuncAttribute {
    cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
    cudaFuncAttributePreferredSharedMemoryCarveout = 9,
};

enum cudaSharedCarveout {
    cudaSharedmemCarveoutDefault = -1,
    cudaSharedmemCarveoutMaxL1 = 0,
    cudaSharedmemCarveoutMaxShared = 100,
};

struct cudaFuncAttributes {
    size_t sharedSizeBytes, constSizeBytes, localSizeBytes;
    int maxThreadsPerBlock, numRegs, ptxVersion, binaryVersion, cacheModeCA;
    int maxDynamicSharedSizeBytes, preferredShmemCarveout;
};

cudaError_t cudaFuncSetAttribute(const void *function, enum cudaFuncAttribute attribute, int value);
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *function);
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *function, int threads,
                                                          size_t shared_bytes);

#ifdef __cplusplus
}

/* ---- what C++ adds ----------------------------------------------------------------------------------------
 */

template <class T> static inline cudaError_t cudaMalloc(T **p, size_t bytes)
{
    return cudaMalloc(reinterpret_cast<void **>(p), bytes);
}
template <class T> static inline cudaError_t cudaMallocHost(T **p, size_t bytes)
{
    return cudaMallocHost(reinterpret_cast<void **>(p), bytes);
}
template <class T> static inline cudaError_t cudaHostAlloc(T **p, size_t bytes, unsigned flags)
{
    return cudaHostAlloc(reinterpret_cast<void **>(p), bytes, flags);
}

namespace cuda_host
{
cudaError_t copy_to_symbol(void *symbol, size_t symbol_bytes, const void *from, size_t bytes, size_t offset,
                           cudaStream_t stream);
}

template <class T>
static inline cudaError_t cudaMemcpyToSymbolAsync(const T &symbol, const void *from, size_t bytes,
                                                  size_t offset = 0, cudaMemcpyKind = cudaMemcpyHostToDevice,
                                                  cudaStream_t stream = 0)
{
    return cuda_host::copy_to_symbol(const_cast<void *>(static_cast<const void *>(&symbol)), sizeof(T), from,
                                     bytes, offset, stream);
}
template <class T>
static inline cudaError_t cudaMemcpyToSymbol(const T &symbol, const void *from, size_t bytes,
                                             size_t offset = 0, cudaMemcpyKind = cudaMemcpyHostToDevice)
{
    return cudaMemcpyToSymbolAsync(symbol, from, bytes, offset);
}

template <class T>
static inline cudaError_t cudaFuncSetAttribute(T *function, enum cudaFuncAttribute attribute, int value)
{
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(function), attribute, value);
}
template <class T>
static inline cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, T *function)
{
    return cudaFuncGetAttributes(attributes, reinterpret_cast<const void *>(function));
}
template <class T>
static inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, T *function, int threads,
                                                                        size_t shared_bytes)
{
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, reinterpret_cast<const void *>(function),
                                                         threads, shared_bytes);
}

#endif

#endif

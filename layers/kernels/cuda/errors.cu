// Peaks of response maps (samples, height, width) and the errors that they make, as layers/crop.py,
// layers/max_score_error.py and layers/center_threshold_error.py define them. A block a sample.
#include "common.cuh"
#include "sums.cuh"
#include "peak.cuh"

// (row, column) of each map's maximum.
extern "C" __global__ void find_peak(const REAL* scores, long long* places, long long height,
                                     long long width, long long samples) {
    __shared__ Peak kept[THREADS];
    for (long long n = blockIdx.x; n < samples; n += gridDim.x) {
        Peak peak = block_peak(scores + n * height * width, height, width, kept);
        if (threadIdx.x == 0) {
            places[2 * n] = peak.place % height;
            places[2 * n + 1] = peak.place / height;
        }
    }
}

// The label of sample n: where there are no targets its own, else 1 if any of its map's is
// positive, -1 if none is.
__device__ REAL sample_label(const REAL* labels, const double* targets, long long n,
                             long long cells, double* kept) {
    if (!targets) return labels[n];
    double positive = 0;
    FOR_EACH_IN_BLOCK(k, cells) positive += labels[n * cells + k] > 0;
    return block_sum(positive, kept) > 0 ? 1 : -1;
}

// The cell of an axis that a target lies in: the nearest one, the first for NaN, the middle one
// where there are no targets.
__device__ long long target_cell(const double* targets, long long place, long long length) {
    if (!targets) return length / 2;
    double position = targets[place];
    double cell = position != position ? 0 : floor(position + 0.5);
    return cell < 0 ? 0 : cell < (double)length ? (long long)cell : length - 1;
}

// 1 for a sample of the wrong sign, else 0.
extern "C" __global__ void max_score_error(const REAL* scores, const REAL* labels,
                                           const double* targets, double* wrong,
                                           long long height, long long width,
                                           long long samples) {
    __shared__ Peak kept[THREADS];
    __shared__ double sums[THREADS];
    for (long long n = blockIdx.x; n < samples; n += gridDim.x) {
        const REAL* map = scores + n * height * width;
        REAL label = sample_label(labels, targets, n, height * width, sums);
        REAL greatest = block_peak(map, height, width, kept).value;
        if (threadIdx.x == 0) {
            long long row = target_cell(targets, 2 * n, height);
            long long column = target_cell(targets, 2 * n + 1, width);
            REAL margin = label > 0 ? map[row * width + column] : -greatest;
            wrong[n] = label == 0 || margin <= 0;
        }
    }
}

// For a positive sample the area under its curve of distance thresholds that its peak is beyond:
// `steps` of them from 0 to `radius`, the first and the last count half. 0 for another sample.
extern "C" __global__ void center_threshold_error(const REAL* scores, const REAL* labels,
                                                  const double* targets, double* areas,
                                                  double radius, long long steps,
                                                  long long height, long long width,
                                                  long long samples) {
    __shared__ Peak kept[THREADS];
    __shared__ double sums[THREADS];
    for (long long n = blockIdx.x; n < samples; n += gridDim.x) {
        REAL label = sample_label(labels, targets, n, height * width, sums);
        Peak peak = block_peak(scores + n * height * width, height, width, kept);
        double down = (double)(peak.place % height - target_cell(targets, 2 * n, height));
        double across = (double)(peak.place / height - target_cell(targets, 2 * n + 1, width));
        double distance = label > 0 ? sqrt(down * down + across * across) : 0;
        double area = 0;
        FOR_EACH_IN_BLOCK(k, steps) {
            // As linspace has them.
            double threshold = k == steps - 1 ? radius : (double)k * (radius / (steps - 1));
            if (distance > threshold) area += k == 0 || k == steps - 1 ? 0.5 : 1;
        }
        area = block_sum(area, sums);
        if (threadIdx.x == 0) areas[n] = area;
    }
}

// SPDX-License-Identifier: MIT
#include "pictures.h"

#include "base/thread.h"

struct pictures pictures_defaults(void) {
    return (struct pictures){
        .overlap = 0.25, .batch = 1, .streams = COMMON_STREAMS, .jobs = (hymn_thread_cpu_count() + 1) / 2};
}

enum exit_code pictures_open(const struct pictures *pictures, const struct common *common,
                             const struct hymn_model *model, size_t count, struct hymn_context **out_context,
                             struct hymn_session **out_session, struct pipeline_params *out_pipeline) {
    const struct hymn_model_info *info = hymn_model_get_info(model);
    const size_t runs = pictures->tile ? SIZE_MAX : count; // a picture may be many tiles
    const struct hymn_session_params params = {.height = pictures->size.height,
                                               .width = pictures->size.width,
                                               .batch = pictures->batch,
                                               .min_batch = 1,
                                               .min_height = pictures->tile ? COMMON_MIN_TILE : 0,
                                               .min_width = pictures->tile ? COMMON_MIN_TILE : 0,
                                               .precision = common->precision,
                                               .tuning_ms = common_tuning_ms(pictures->tuning),
                                               .streams = common_streams(pictures->streams, runs, pictures->batch)};
    enum exit_code code = common_open_device(common, NULL, params.streams, out_context);
    if (code == CODE_OK) {
        code = common_open_session(*out_context, model, pictures->model, &params, out_session);
    }
    if (code == CODE_OK) {
        *out_pipeline = (struct pipeline_params){.session = *out_session,
                                                 .classes = info->num_classes,
                                                 .batch = hymn_session_get_info(*out_session)->batch,
                                                 .threshold = pictures->threshold > 0 ? (float)pictures->threshold
                                                                                      : info->threshold,
                                                 .tile = pictures->tile,
                                                 .overlap = pictures->overlap,
                                                 .jobs = pictures->jobs};
    }
    return code;
}

// SPDX-License-Identifier: MIT
//
// The header is C++ as well.
#include <hymn/hymn.h>

#include <cstdio>
#include <cstring>

int main() {
    hymn_model_params params = {};
    params.path = "no-such-model";
    hymn_model *model = nullptr;
    const hymn_status status = hymn_model_create(&params, &model);
    std::printf("hymn %s: %s\n", hymn_version_string(), hymn_status_string(status));
    hymn_model_destroy(&model);
    return status == HYMN_STATUS_IO && std::strcmp(hymn_version_string(), "0.2.0") == 0 ? 0 : 1;
}

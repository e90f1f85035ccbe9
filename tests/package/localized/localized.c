// SPDX-License-Identifier: MIT
int vkHidden(int a);
__attribute__((visibility("default"))) int hymn_seen(int a);

int vkHidden(int a) {
    return a + 1;
}

int hymn_seen(int a) {
    return vkHidden(a);
}

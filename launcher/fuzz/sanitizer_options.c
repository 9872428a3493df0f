/* The launcher keeps its memory until execve, and its tests set its whole environment: options are built in. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0:abort_on_error=1"; }

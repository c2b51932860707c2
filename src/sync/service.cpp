#include <capstan/sync/service.h>

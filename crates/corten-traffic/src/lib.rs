//! Pure data-plane decisions: tables of workloads and services, authorization, endpoint picking, DNS answers.

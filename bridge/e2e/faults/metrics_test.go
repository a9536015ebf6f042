package faults_test

// metricsToken is what the worlds' bridges want for their figures.
const metricsToken = "token-of-the-metrics-of-the-tests"
